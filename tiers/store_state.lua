-- The first part of all scripts of the store: its state, and what may be said of it.
--
-- KEYS[1]  a sorted set:
--            ''         when this set was made: the lineage. It changes when Redis lost its data.
--            'w' .. key version of the last write of the key
--            'e' .. key version at which the key was taken out of Redis for a reason that is no
--                       write
--            'E'        minus the newest version of that kind that is remembered for no one key
-- Versions are microseconds, and grow. Marks of keys are forgotten when all who could ask for
-- them are late anyway.
local MARKS_MAX = 100000 -- keys taken out are remembered one by one up to here
local FORGET_MAX = 1000 -- marks forgotten by one script
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = KEYS[1]
local function number(score) return tonumber(score or '0') end
local function text(version) return string.format('%.0f', version) end
local function score(member) return redis.call('ZSCORE', state, member) end

local lineage = score('')
if not lineage then
  lineage = text(now)
  redis.call('ZADD', state, lineage, '')
end
local top = number(redis.call('ZRANGE', state, -1, -1, 'WITHSCORES')[2])
local version = math.max(now, top + 1, 1 - number(score('E')))

-- Write down that a key is, or may as well be, taken out.
local function mark_out(key)
  if redis.call('ZCARD', state) < MARKS_MAX then
    redis.call('ZADD', state, text(version), 'e' .. key)
  else
    redis.call('ZADD', state, text(-version), 'E')
  end
end

local function take_out(key)
  redis.call('UNLINK', key)
  mark_out(key)
end

-- The newest version at which the key was, or may have been, taken out.
local function taken_out(key) return math.max(number(score('e' .. key)), -number(score('E'))) end

local function forget(age)
  local old = redis.call('ZRANGEBYSCORE', state, '(' .. lineage, text(now - age), 'WITHSCORES',
                         'LIMIT', 0, FORGET_MAX)
  for i = 1, #old, 2 do
    if string.sub(old[i], 1, 1) == 'e' and number(old[i + 1]) > -number(score('E')) then
      redis.call('ZADD', state, '-' .. old[i + 1], 'E')
    end
    redis.call('ZREM', state, old[i])
  end
end
