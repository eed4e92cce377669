-- Store rows loaded from L3, unless they are outdated by now.
--
-- KEYS[1]           hash of view epochs, KEYS[2..] the keys
-- ARGV[1..2]        view name, its epoch sampled before the rows were read ('' if none)
-- ARGV[3]           prefix of tombstones
-- then per key:     ttl in ms, number of values n, n values
--                   (n = 1: string; n even: field, value, ...; n = 0: remove nothing, set nothing)
-- Returns false when the view was refreshed since, else a list with one integer per key:
--   1 stored, 0 the key exists already, 2 the key was deleted on purpose (tombstone)
local epoch = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if epoch ~= ARGV[2] then return false end
local result, at = {}, 4
for i = 2, #KEYS do
  local key, ttl, n = KEYS[i], ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  if redis.call('EXISTS', key) == 1 then
    result[#result + 1] = 0
  elseif redis.call('EXISTS', ARGV[3] .. key) == 1 then
    result[#result + 1] = 2
  else
    if n == 1 then
      redis.call('SET', key, ARGV[at], 'PX', ttl)
    elseif n > 1 then
      for j = at, at + n - 1, 2 do redis.call('HSET', key, ARGV[j], ARGV[j + 1]) end
      redis.call('PEXPIRE', key, ttl)
    end
    result[#result + 1] = 1
  end
  at = at + n
end
return result
