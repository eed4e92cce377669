-- Remove keys from Redis on request, and record it for the commands that depend on them.
--
-- KEYS[1] state of the store, see state.lua, KEYS[2..] the keys
-- Returns how many of them existed.
local removed = 0
for i = 2, #KEYS do
  removed = removed + redis.call('EXISTS', KEYS[i])
  remove(KEYS[i])
end
return removed
