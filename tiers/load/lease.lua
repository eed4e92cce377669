-- Grant leases before rows are read from L3, and return the epoch of their view.
--
-- KEYS[1]     hash of view epochs, KEYS[2] hash of leases: key -> end in ms, space, token
-- KEYS[3..]   the keys
-- ARGV[1]     view, ARGV[2] token of the asker, ARGV[3] how long a lease lasts, in ms
-- ARGV[4]     '1' to read it even if another process holds the lease
-- Returns {epoch, verdict...}: 1 read it, 0 another process reads it, 2 it is in L2 by now
local CHUNK = 1000 -- arguments of one call: few calls are cheap, and Lua's stack is small
local leases, token, lease_ms = KEYS[2], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = string.format('%.0f %s', now + lease_ms, token)
local result = {redis.call('HGET', KEYS[1], ARGV[1]) or ''}
for from = 3, #KEYS, CHUNK do
  local to = math.min(from + CHUNK - 1, #KEYS)
  local there = redis.call('EXISTS', unpack(KEYS, from, to)) > 0
  local held = redis.call('HMGET', leases, unpack(KEYS, from, to))
  local taken = {}
  for i = from, to do
    local lease, verdict = held[i - from + 1], 1
    if there and redis.call('EXISTS', KEYS[i]) == 1 then
      verdict = 2
    elseif lease and ARGV[4] ~= '1' then
      local ends, holder = string.match(lease, '^(%d+) (.*)$')
      if holder ~= token and tonumber(ends) > now then verdict = 0 end
    end
    if verdict == 1 then
      taken[#taken + 1] = KEYS[i]
      taken[#taken + 1] = mine
    end
    result[#result + 1] = verdict
  end
  if #taken > 0 then redis.call('HSET', leases, unpack(taken)) end
end
redis.call('PEXPIRE', leases, 10 * lease_ms) -- removes leases of dead proxies
return result
