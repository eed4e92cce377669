-- Find keys of another lineage, page by page, and remove those that the table has.
--
-- KEYS[1]  state of the store, see state.lua
-- KEYS[2..] keys of the previous page, to remove. They get no marks of their own: a command that
--          depends on a key has verified it by snapshot.lua, or took its snapshot too long ago.
-- ARGV[1]  the lineage that stays, ARGV[2] cursor, '' to begin; ARGV[3] keys per page
-- ARGV[4]  how long writes are remembered, ARGV[5] how long the claim to sweep holds, in us
-- ARGV[6..] the prefixes of the keys of the store
-- Returns {next cursor, keys found}; the cursor is '' if there is nothing (more) to do here.
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
