-- Last in a transaction that counted on rows of mapped keys.
--
-- KEYS[1]   the set in which fill.lua noted absent keys whose rows were not at hand: what was
--           made of their absence is undone
-- KEYS[2..] keys that are not to be loaded again (tombstone) if the transaction removed them
-- ARGV[1]   prefix of tombstones, ARGV[2..] how long that holds for each of the keys, in ms
local undone = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  undone[key] = true
  redis.call('UNLINK', key)
end
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do
  if not undone[KEYS[i]] and redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('SET', ARGV[1] .. KEYS[i], '1', 'PX', ARGV[i])
  end
end
return 1
