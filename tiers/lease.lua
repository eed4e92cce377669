-- Before rows are read from L3: who reads which of them, and the epoch of their view.
--
-- KEYS[1]     hash of view epochs, KEYS[2..] the keys
-- ARGV[1]     view, ARGV[2] prefix of leases, ARGV[3] token of the asker
-- ARGV[4]     how long a lease lasts, in ms; ARGV[5] '1' to read whoever else does
-- Returns {epoch, verdict...}: 1 read it, 0 somebody else does, 2 it is in L2 by now
local result = {redis.call('HGET', KEYS[1], ARGV[1]) or ''}
for i = 2, #KEYS do
  local lease = ARGV[2] .. KEYS[i]
  local verdict = 1
  if redis.call('EXISTS', KEYS[i]) == 1 then
    verdict = 2
  elseif not redis.call('SET', lease, ARGV[3], 'NX', 'PX', ARGV[4])
      and ARGV[5] ~= '1' and redis.call('GET', lease) ~= ARGV[3] then
    verdict = 0
  end
  result[#result + 1] = verdict
end
return result
