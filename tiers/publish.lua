-- Make a refresh of a view visible: its epoch first, so that older loads can no longer be
-- stored, then the changed keys go.
--
-- KEYS[1] hash of view epochs, KEYS[2..] changed keys and their tombstones
-- ARGV[1..2] view name, new epoch
-- Returns the number of keys removed.
local epoch = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if tonumber(ARGV[2]) > epoch then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed
