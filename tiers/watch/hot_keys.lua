-- Add one proxy's hot keys to those of the fleet. Former scores count half.
--
-- KEYS[1]  sorted set: key -> score
-- ARGV[1]  how many keys to keep, ARGV[2] for how many seconds
-- then per key: its score, the key
redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', '0.5')
for i = 3, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(ARGV[1] + 1))
return redis.call('EXPIRE', KEYS[1], ARGV[2])
