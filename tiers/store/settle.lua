-- Decide whether captured writes may be acknowledged, after the table took them or did not.
--
-- KEYS[1]  state of the store, see state.lua, KEYS[2..] the keys
-- ARGV     per key: version captured, lineage captured, version now in the table; the last is
--          '' if the table did not answer, 'none' if the command wrote nothing after all,
--          'refused' if the table did not take the write
-- Returns one element per key:
--   'ok'      the table holds this write or one that was made on top of it
--   'lost'    Redis lost its data since, so other clients may have written on top of older data;
--             the key was removed from Redis
--   'wait'    a newer write of the key is still on its way to the table
--   'failed'  for a last argument of '' or 'refused': the key was removed from Redis, unless
--             written since
--   'undone'  for a last argument of 'none': newer loads need not wait for this version
--   else      a new version for the same state, because the table has a higher version from a
--             lineage whose clock was ahead
local result = {}
for i = 2, #KEYS do
  local key, at = KEYS[i], 3 * (i - 2) + 1
  local captured, in_table = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  local written = number(score('w' .. key))
  local verdict = 'ok'
  if ARGV[at + 1] ~= lineage or written < captured then
    remove(key)
    verdict = 'lost'
  elseif ARGV[at + 2] == 'none' then
    if written == captured then
      redis.call('ZREM', state, 'w' .. key)
      mark_removed(key)
    end
    verdict = 'undone'
  elseif ARGV[at + 2] == 'refused' then
    if written == captured then
      redis.call('ZREM', state, 'w' .. key)
      remove(key)
    end
    verdict = 'failed'
  elseif not in_table then
    if written == captured then remove(key) end
    verdict = 'failed'
  elseif in_table > captured and written == captured then
    version = math.max(version, in_table) + 1
    verdict = text(version)
    redis.call('ZADD', state, verdict, 'w' .. key)
  elseif in_table > captured and written < in_table then
    verdict = 'wait'
  end
  result[#result + 1] = verdict
end
return result
