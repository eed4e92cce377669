-- In front of a command that counts on keys of the store, in its transaction: those that are
-- absent are noted for capture.lua, which knows whether they may be.
--
-- KEYS[1]  state of the store, see state.lua (which this does not need), KEYS[2..] the keys
-- ARGV     per key: 0 if it was seen in Redis before, or brought there, else 1
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('ZADD', KEYS[1], ARGV[i - 1], 'g' .. KEYS[i])
  end
end
return 1
