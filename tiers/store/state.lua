-- The first part of all scripts of the store: its state, and the functions over it.
--
-- KEYS[1]  a sorted set:
--            ''         the time at which this set was made: the lineage
--            '@' .. id  the server that made it, with the same score. Data that came from
--                       another process, or from another history, has another lineage
--            'S'        exists while keys of another lineage may be left. Its score is minus the
--                       end of the claim of the sweeping proxy, 0 for no claim, 1 if unknown
--            'v' .. key version at which the key was found to be of this lineage, or removed
--            'w' .. key version of the last write of the key
--            'e' .. key version at which the key was removed from Redis without a write
--            'd' .. key the version of 'w', if that write left the key absent
--            'g' .. key within one transaction: the key was absent before its command ran; 0 if it
--            had been seen, else 1
--            'E'        minus the newest version of kind 'e' that is not remembered per key
-- Versions are microseconds, and grow. Marks of keys are forgotten when every script that could
-- ask for them is too late anyway.
local MARKS_MAX = 100000 -- up to here, removed keys are remembered one by one
local FORGET_MAX = 1000 -- marks forgotten by one script
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = KEYS[1]
local function number(score) return tonumber(score or '0') end
local function text(version) return string.format('%.0f', version) end
local function score(member) return redis.call('ZSCORE', state, member) end

-- A field of INFO: the run id of this process, the id of the history it was promoted from.
local function info_field(section, name)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, name .. ':(%w+)') or ''
end

local own = '@' .. info_field('server', 'run_id') .. info_field('replication', 'master_replid2')
local lineage = score('')
local top = number(redis.call('ZRANGE', state, -1, -1, 'WITHSCORES')[2])
local version = math.max(now, top + 1, 1 - number(score('E')))

-- Begin a lineage above all earlier ones.
local function begin(above)
  lineage = text(math.max(version, above + 1))
  version = tonumber(lineage) + 1
  redis.call('UNLINK', state)
  redis.call('ZADD', state, lineage, '', lineage, own, 1, 'S')
end
if not lineage or score(own) ~= lineage then begin(0) end

-- Record that a key is removed, or counts as removed.
local function mark_removed(key)
  if redis.call('ZCARD', state) < MARKS_MAX then
    redis.call('ZADD', state, text(version), 'e' .. key)
  else
    redis.call('ZADD', state, text(-version), 'E')
  end
end

local function remove(key)
  redis.call('UNLINK', key)
  mark_removed(key)
end

-- The end of the claim of the sweeping proxy; nil if there is nothing to sweep.
local function sweep_until()
  local sweep = score('S')
  return sweep and tonumber(sweep) <= 0 and -tonumber(sweep) or nil
end

-- Whether the key is known to be of this lineage.
local function is_verified(key) return score('w' .. key) or score('v' .. key) end

-- The newest version at which the key was, or may have been, removed.
local function removed_at(key) return math.max(number(score('e' .. key)), -number(score('E'))) end

-- A command with a snapshot before this version is too late: its keys may have been removed.
local function outdate(at)
  if at > -number(score('E')) then redis.call('ZADD', state, text(-at), 'E') end
end

local function forget(age)
  local old = redis.call('ZRANGEBYSCORE', state, '(' .. lineage, text(now - age), 'WITHSCORES',
                         'LIMIT', 0, FORGET_MAX)
  for i = 1, #old, 2 do
    if string.sub(old[i], 1, 1) == 'e' then outdate(tonumber(old[i + 1])) end
    redis.call('ZREM', state, old[i])
  end
end
