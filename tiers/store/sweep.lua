-- Find keys of another lineage, page by page, and take out those that the table has.
--
-- KEYS[1]  state of the store, see state.lua
-- KEYS[2..] keys of the page before, to be taken out. None is marked one by one: whoever counts
--          on a key has verified it by look.lua, or looked too long ago.
-- ARGV[1]  the lineage that stays, ARGV[2] cursor, '' to begin; ARGV[3] keys to look at
-- ARGV[4]  how long writes are remembered, ARGV[5] how long the claim of who sweeps holds, in us
-- ARGV[6..] what the keys of the store begin with
-- Returns {next cursor, keys found}; the cursor is '' when there is nothing (more) to do here.
local claimed = sweep_until()
if lineage ~= ARGV[1] or not claimed then return {'', {}} end
if ARGV[2] == '' and claimed >= now then return {'', {}} end
redis.call('ZADD', state, text(-now - ARGV[5]), 'S')
outdate(now - ARGV[4])
for i = 2, #KEYS do
  if not is_verified(KEYS[i]) then redis.call('UNLINK', KEYS[i]) end
end
if ARGV[2] == '0' then
  redis.call('ZREM', state, 'S')
  return {'', {}}
end
local found = {}
local page = redis.call('SCAN', ARGV[2] == '' and '0' or ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(page[2]) do
  for i = 6, #ARGV do
    if string.sub(key, 1, #ARGV[i]) == ARGV[i] and not is_verified(key) then
      found[#found + 1] = key
    end
  end
end
return {page[1], found}
