-- Store the position up to which changes of a view were announced, after the keys are gone.
--
-- KEYS[1] hash of positions, ARGV[1] view, ARGV[2] position before, ARGV[3] position after
-- Returns 1, or 0 if the stored position is not the one before: then it stays.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '0 -') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
