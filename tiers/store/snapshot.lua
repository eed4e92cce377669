-- Read the lineage and the clock of Redis, before keys are read.
--
-- KEYS[1]  state of the store, see state.lua
-- KEYS[2..] keys that a command will depend on. Those that may be of another lineage are removed.
-- ARGV[1]  how long to remember writes, in us
-- Returns {lineage, clock, sweep}: 0 if all keys are of this lineage, 1 while a proxy sweeps the
-- other keys out, 2 if no proxy does so yet.
forget(ARGV[1])
local claimed = sweep_until()
for i = 2, claimed and #KEYS or 0 do
  if not is_verified(KEYS[i]) then
    remove(KEYS[i])
    redis.call('ZADD', state, text(version), 'v' .. KEYS[i])
  end
end
return {lineage, text(version + 1), not claimed and 0 or claimed < now and 2 or 1}
