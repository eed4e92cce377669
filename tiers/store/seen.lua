-- Last in a transaction of a client: was what it read taken out of Redis under it?
--
-- KEYS[1]  state of the store, see state.lua
-- KEYS[2..] keys that it has read and not written
-- ARGV     per key: lineage and clock before it was seen or brought here
-- Returns one integer per key, as fill.lua does: 4 for one that is absent and may have been
-- taken out since, else 0. An absent key that was deleted, or expired, is absent.
local result = {}
for i = 2, #KEYS do
  local at = 2 * (i - 2) + 1
  local is_sound = ARGV[at] == lineage and taken_out(KEYS[i]) < tonumber(ARGV[at + 1])
  result[#result + 1] = (is_sound or redis.call('EXISTS', KEYS[i]) == 1) and 0 or 4
end
return result
