-- The first part of all scripts of the store: its state, and what may be said of it.
--
-- KEYS[1]  a sorted set:
--            ''         when this set was made: the lineage
--            '@' .. id  the server that made it, under the same score. Data that came from
--                       another process, or from another history, has another lineage
--            'S'        there while keys of another lineage may be left: minus the end of the
--                       claim of who sweeps them out, 0 for nobody, 1 while it is not known
--            'v' .. key version at which the key was found to be of this lineage, or taken out
--            'w' .. key version of the last write of the key
--            'e' .. key version at which the key was taken out of Redis for a reason that is no
--                       write
--            'd' .. key the same version, if that write left the key absent
--            'g' .. key within one transaction: the key was absent before its command ran; 0 if it
--            had been seen, else 1
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

-- Of this process and of its data: the run id, and whom it was promoted from.
local function told(section, name)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, name .. ':(%w+)') or ''
end

local own = '@' .. told('server', 'run_id') .. told('replication', 'master_replid2')
local lineage = score('')
local top = number(redis.call('ZRANGE', state, -1, -1, 'WITHSCORES')[2])
local version = math.max(now, top + 1, 1 - number(score('E')))

-- Begin a lineage above all that was before.
local function begin(above)
  lineage = text(math.max(version, above + 1))
  version = tonumber(lineage) + 1
  redis.call('UNLINK', state)
  redis.call('ZADD', state, lineage, '', lineage, own, 1, 'S')
end
if not lineage or score(own) ~= lineage then begin(0) end

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

-- The end of the claim of who sweeps; nil when there is nothing to sweep.
local function sweep_until()
  local sweep = score('S')
  return sweep and tonumber(sweep) <= 0 and -tonumber(sweep) or nil
end

-- Whether the key is known to be of this lineage.
local function is_verified(key) return score('w' .. key) or score('v' .. key) end

-- The newest version at which the key was, or may have been, taken out.
local function taken_out(key) return math.max(number(score('e' .. key)), -number(score('E'))) end

-- Who looked before is too late: what it counts on may have been taken out.
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
