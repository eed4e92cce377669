-- Store entries of the table in Redis, unless they are outdated by now.
--
-- KEYS[1]   state of the store, see state.lua, KEYS[2..] the keys
-- ARGV[1]   lineage, ARGV[2] clock, both sampled before the table was read
-- ARGV[3]   the largest age of that sample, in us
-- then per key: version (0: no row), type ('none': absent), value, expires_at_ms (0: never)
-- Returns false if the sample is outdated, else one integer per key:
--   1 stored, 0 the key exists already, 2 absent (or expired), 3 a newer write of the key is on
--   its way to the table, 4 Redis cannot restore the value
if lineage ~= ARGV[1] then return false end
if now - ARGV[2] > tonumber(ARGV[3]) then return false end
local result, sampled = {}, tonumber(ARGV[2])
for i = 2, #KEYS do
  local key, at = KEYS[i], 4 * (i - 2) + 4
  local stored, kind, value = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local expires_at_ms = tonumber(ARGV[at + 3])
  local verdict = 1
  if redis.call('EXISTS', key) == 1 then
    verdict = 0
  elseif number(score('w' .. key)) > stored or removed_at(key) >= sampled then
    verdict = 3
  elseif kind == 'none' or (expires_at_ms > 0 and expires_at_ms * 1000 <= now) then
    verdict = 2
  elseif kind == 'string' then
    redis.call('SET', key, value)
  else
    local answer = redis.pcall('RESTORE', key, 0, value)
    if answer.err then verdict = 4 end
  end
  if verdict == 1 and expires_at_ms > 0 then
    redis.call('PEXPIREAT', key, ARGV[at + 3])
  end
  result[#result + 1] = verdict
end
return result
