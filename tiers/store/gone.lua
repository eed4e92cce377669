-- Record which keys of the store are absent, in front of a command that depends on them, in its
-- transaction. capture.lua decides whether they may be absent.
--
-- KEYS[1]  state of the store, see state.lua (not needed here), KEYS[2..] the keys
-- ARGV     per key: 0 if it was seen in Redis before, or loaded, else 1
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('ZADD', KEYS[1], ARGV[i - 1], 'g' .. KEYS[i])
  end
end
return 1
