-- Capture the present content of some keys of the store, under a version newer than all before.
-- It runs in the transaction of the command that wrote them, so "absent" means deleted, not
-- evicted.
--
-- KEYS[1]  state of the store, see state.lua
-- KEYS[2..] the keys
-- ARGV[1]  how long to remember writes, in us
-- ARGV[2..3] lineage and clock before the command's keys were seen or loaded; '' if the command
--          does not depend on old values
-- Returns {lineage, version, {type, value, expires_at_ms}...}: the value of a string, the DUMP
-- of any other type; type 'none' for an absent key; 0 for no expiry. If the keys may have left
-- Redis since that clock (see gone.lua, too), the command may have computed from missing values:
-- then the keys are removed again, and the list ends after the version.
forget(ARGV[1])
local result = {lineage, text(version)}
if ARGV[2] ~= '' then
  local is_sound, clock = ARGV[2] == lineage, tonumber(ARGV[3])
  for i = 2, #KEYS do
    -- Seen or written since, not deleted, but absent: evicted or expired.
    local key, gone = KEYS[i], score('g' .. KEYS[i])
    local is_gone = gone and number(score('d' .. key)) < clock
                    and (gone == '0' or number(score('w' .. key)) >= clock)
    if gone then redis.call('ZREM', state, 'g' .. key) end
    is_sound = is_sound and not is_gone and removed_at(key) < clock
  end
  if not is_sound then
    for i = 2, #KEYS do remove(KEYS[i]) end
    return result
  end
end
for i = 2, #KEYS do
  local key = KEYS[i]
  local kind = redis.call('TYPE', key).ok
  local value, expires_at_ms = '', 0
  if kind == 'string' then
    value = redis.call('GET', key)
  elseif kind ~= 'none' then
    value = redis.call('DUMP', key)
  end
  local ttl_ms = redis.call('PTTL', key)
  if ttl_ms >= 0 then expires_at_ms = math.floor(now / 1000) + ttl_ms end
  redis.call('ZADD', state, text(version), 'w' .. key)
  if kind == 'none' then
    redis.call('ZADD', state, text(version), 'd' .. key)
  else
    redis.call('ZREM', state, 'd' .. key)
  end
  result[#result + 1] = {kind, value, text(expires_at_ms)}
end
return result
