-- After the table took (or did not take) captured writes: may they be acknowledged?
--
-- KEYS[1]  state of the store, see state.lua, KEYS[2..] the keys
-- ARGV     per key: version captured, lineage captured, version now in the table; the last is
--          '' when the table could not be asked, 'none' when nothing was written after all,
--          'refused' when the table did not take it
-- Returns one element per key:
--   'ok'      the table holds this write or one that was made on top of it
--   'lost'    Redis lost its data since, so others may have written on top of something older;
--             the key was taken out of Redis
--   'wait'    a newer write of the key is still on its way to the table
--   'failed'  for a last argument of '' or 'refused': the key was taken out of Redis, unless
--             written since
--   'undone'  for a last argument of 'none': newer loads need not wait for this version
--   else      a new version to store the same state under, because the table has a higher one
--             from a lineage whose clock was ahead
local result = {}
for i = 2, #KEYS do
  local key, at = KEYS[i], 3 * (i - 2) + 1
  local captured, in_table = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  local written = number(score('w' .. key))
  local verdict = 'ok'
  if ARGV[at + 1] ~= lineage or written < captured then
    take_out(key)
    verdict = 'lost'
  elseif ARGV[at + 2] == 'none' then
    if written == captured then
      redis.call('ZREM', state, 'w' .. key)
      mark_out(key)
    end
    verdict = 'undone'
  elseif ARGV[at + 2] == 'refused' then
    if written == captured then
      redis.call('ZREM', state, 'w' .. key)
      take_out(key)
    end
    verdict = 'failed'
  elseif not in_table then
    if written == captured then take_out(key) end
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
