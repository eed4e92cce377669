-- After the table took (or did not take) captured writes: may they be acknowledged?
--
-- KEYS[1]  state of the store (see store_capture.lua), KEYS[2..] the keys
-- ARGV     per key: version captured, lineage captured, version now in the table; the last is
--          '' when the table could not be asked, 'none' when nothing was written after all
-- Returns one element per key:
--   'ok'      the table holds this write or one that was made on top of it
--   'lost'    Redis lost its data since, so others may have written on top of something older;
--             the key was taken out of Redis
--   'wait'    a newer write of the key is still on its way to the table
--   'failed'  for a last argument of '': the key was taken out of Redis, unless written since
--   'undone'  for a last argument of 'none': newer loads need not wait for this version
--   else      a new version to store the same state under, because the table has a higher one
--             from a lineage whose clock was ahead
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = KEYS[1]
local lineage = redis.call('ZSCORE', state, '') or string.format('%.0f', now)
local top = redis.call('ZRANGE', state, -1, -1, 'WITHSCORES')[2]
local last = math.max(now, tonumber(top or '0'))
redis.call('ZADD', state, lineage, '')

local function evict(key)
  last = last + 1
  redis.call('UNLINK', key)
  redis.call('ZADD', state, string.format('%.0f', last), 'e' .. key)
end

local result = {}
for i = 2, #KEYS do
  local key, at = KEYS[i], 3 * (i - 2) + 1
  local captured, in_table = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  local written = tonumber(redis.call('ZSCORE', state, 'w' .. key) or '0')
  local verdict = 'ok'
  if ARGV[at + 1] ~= lineage or written < captured then
    evict(key)
    verdict = 'lost'
  elseif ARGV[at + 2] == 'none' then
    if written == captured then
      last = last + 1
      redis.call('ZREM', state, 'w' .. key)
      redis.call('ZADD', state, string.format('%.0f', last), 'e' .. key)
    end
    verdict = 'undone'
  elseif not in_table then
    if written == captured then evict(key) end
    verdict = 'failed'
  elseif in_table > captured and written == captured then
    last = math.max(last, in_table) + 1
    verdict = string.format('%.0f', last)
    redis.call('ZADD', state, verdict, 'w' .. key)
  elseif in_table > captured and written < in_table then
    verdict = 'wait'
  end
  result[#result + 1] = verdict
end
return result
