-- Store rows loaded from L3, unless they are outdated by now.
--
-- KEYS[1..2]        hash of view epochs, hash of leases; KEYS[3..] the keys, no longer leased then
-- ARGV[1..2]        view name, its epoch sampled before the rows were read ('' if none)
-- ARGV[3]           prefix of tombstones
-- ARGV[4]           '' or, if a command of the same transaction needs the rows, the least TTL of
--                   the rows in ms (scripts read the clock again), and the TTL of outdated rows
-- ARGV[5]           '' or a set of that transaction: absent keys without a given row
-- then per key:     ttl in ms, number of values n, n values
--                   (n = 1: string; n even: field, value, ...; n = 0: remove nothing, set nothing;
--                   n = -1: no row is given)
-- Returns false if the view was refreshed since and ARGV[4] is '', else a list with one integer
-- per key:
--   1 stored, 0 the key exists already, 2 the key was deleted on purpose (tombstone),
--   3 stored although outdated, for the time of ARGV[4], 4 absent and no row given
local CHUNK = 1000 -- arguments of one call: few calls are cheap, and Lua's stack is small
local epoch = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local is_outdated, least_ms = epoch ~= ARGV[2], tonumber(ARGV[4])
if is_outdated and not least_ms then return false end

-- Tombstones are rare: one call checks that there are none.
local tombstones, any_deleted = {}, false
for i = 3, #KEYS do tombstones[i - 2] = ARGV[3] .. KEYS[i] end
for from = 1, #tombstones, CHUNK do
  local to = math.min(from + CHUNK - 1, #tombstones)
  any_deleted = any_deleted or redis.call('EXISTS', unpack(tombstones, from, to)) > 0
end

local result, at = {}, 6
for i = 3, #KEYS do
  local key, ttl, n = KEYS[i], ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  local verdict = 1
  if is_outdated then ttl, verdict = ARGV[4], 3 end
  if least_ms and tonumber(ttl) < least_ms then ttl = ARGV[4] end
  if any_deleted and redis.call('EXISTS', tombstones[i - 2]) == 1 then
    verdict = redis.call('EXISTS', key) == 1 and 0 or 2
  elseif n == 1 then
    if not redis.call('SET', key, ARGV[at], 'PX', ttl, 'NX') then verdict = 0 end
  elseif redis.call('EXISTS', key) == 1 then
    verdict = 0
  elseif n < 0 then
    verdict = 4
    redis.call('SADD', ARGV[5], key)
    redis.call('PEXPIRE', ARGV[5], 60000) -- rows_settle.lua removes it sooner
  elseif n > 1 then
    for j = at, at + n - 1, 2 do redis.call('HSET', key, ARGV[j], ARGV[j + 1]) end
    redis.call('PEXPIRE', key, ttl)
  end
  if verdict == 0 and least_ms then
    local left_ms = redis.call('PTTL', key)
    if left_ms >= 0 and left_ms < least_ms then redis.call('PEXPIRE', key, ARGV[4]) end
  end
  result[#result + 1] = verdict
  at = at + math.max(n, 0)
end
for from = 3, #KEYS, CHUNK do
  redis.call('HDEL', KEYS[2], unpack(KEYS, from, math.min(from + CHUNK - 1, #KEYS)))
end
return result
