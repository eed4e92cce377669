-- End a transaction that needed rows of mapped keys.
--
-- KEYS[1]   the set of absent keys without a given row, from fill.lua: they are removed, since
--           commands may have created them anew
-- KEYS[2..] keys that must not be loaded again (tombstone) if the transaction removed them
-- ARGV[1]   prefix of tombstones, ARGV[2..] the time to live of each tombstone, in ms
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
