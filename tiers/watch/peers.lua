-- Register this Terrace, and list those that may serve strict keys from memory.
-- KEYS[1]  sorted set: member -> its end (ms), and "born" -> minus the creation time of the set
-- ARGV[1]  own member, or "" to read only
-- ARGV[2]  how long a member is kept, in ms
-- Returns the age of the set in ms (-1: there is none) and the members.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now)
  redis.call('ZADD', KEYS[1], 'NX', -now, 'born')
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local born = redis.call('ZSCORE', KEYS[1], 'born')
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
return {born and now + born or -1, members}
