-- Make a change of a view visible: set its guard, so that older loads can no longer be stored,
-- then remove the changed keys.
--
-- KEYS[1] hash of guards, KEYS[2..] changed keys and their tombstones
-- ARGV[1] view, ARGV[2] a new, unique guard ('' keeps the present one, for pushed keys)
-- ARGV[3] the guard after the previous call ('' in the first): if it is still set, it is kept
-- Returns the guard that is set now.
local guard = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[2] ~= '' and (ARGV[3] == '' or guard ~= ARGV[3]) then
  guard = ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], guard)
end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return guard
