-- Make a change of a view visible: its guard first, so that older loads can no longer be
-- stored, then the changed keys go.
--
-- KEYS[1] hash of guards, KEYS[2..] changed keys and their tombstones
-- ARGV[1] view, ARGV[2] a guard that never was before ('': it stays, for pushed keys)
-- ARGV[3] the guard that the call before left ('' in the first): if it still stands, it stays
-- Returns the guard that stands now.
local guard = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[2] ~= '' and (ARGV[3] == '' or guard ~= ARGV[3]) then
  guard = ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], guard)
end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return guard
