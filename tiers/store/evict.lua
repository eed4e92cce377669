-- Take keys out of Redis on request, written down for the commands that count on them.
--
-- KEYS[1] state of the store, see state.lua, KEYS[2..] the keys
-- Returns how many were there.
local removed = 0
for i = 2, #KEYS do
  removed = removed + redis.call('EXISTS', KEYS[i])
  take_out(KEYS[i])
end
return removed
