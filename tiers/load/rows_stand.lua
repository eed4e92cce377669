-- Make a transaction that watches KEYS[1] fail if a key is absent. It runs in front of MULTI.
--
-- KEYS[1]   a unique name, KEYS[2..] keys that must exist
-- ARGV[1]   their least TTL in ms: a script in the transaction reads the clock again
-- Returns 1 if they exist, else 0: EXEC then answers nil. An error if Redis accepts no write.
local stand, least_ms = true, tonumber(ARGV[1])
for i = 2, #KEYS do
  local left_ms = redis.call('PTTL', KEYS[i])
  stand = stand and left_ms ~= -2 and (left_ms == -1 or left_ms >= least_ms)
end
if stand then return 1 end
redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])
return 0
