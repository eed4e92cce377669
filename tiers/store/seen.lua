-- Check, at the end of a client's transaction, whether keys that it read left Redis meanwhile.
--
-- KEYS[1]  state of the store, see state.lua
-- KEYS[2..] keys that the transaction has read and not written
-- ARGV     per key: lineage and clock before it was seen or loaded
-- Returns one integer per key, as fill.lua does: 4 for a key that is absent and may have been
-- removed since, else 0. An absent key that was deleted, or expired, is truly absent.
local result = {}
for i = 2, #KEYS do
  local at = 2 * (i - 2) + 1
  local is_sound = ARGV[at] == lineage and removed_at(KEYS[i]) < tonumber(ARGV[at + 1])
  result[#result + 1] = (is_sound or redis.call('EXISTS', KEYS[i]) == 1) and 0 or 4
end
return result
