-- In front of a transaction that watches KEYS[1]: keeps it from running where a key is absent.
--
-- KEYS[1]   a name that nobody else uses, KEYS[2..] keys that must be there
-- ARGV[1]   for how many ms more at least: a script in the transaction looks at the time anew
-- Returns 1 when they are, else 0: EXEC then answers nil. An error where Redis takes no write.
local stand, least_ms = true, tonumber(ARGV[1])
for i = 2, #KEYS do
  local left_ms = redis.call('PTTL', KEYS[i])
  stand = stand and left_ms ~= -2 and (left_ms == -1 or left_ms >= least_ms)
end
if stand then return 1 end
redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])
return 0
