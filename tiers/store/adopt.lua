-- Find the lineage for the table. If the data here is older than the table, begin a new one.
--
-- KEYS[1]  state of the store, see state.lua
-- ARGV[1]  lineage of the table; '0' for none: then no data here can be older
-- Returns the lineage. If it differs from that of the table, keys of another lineage may be left.
if tonumber(lineage) < tonumber(ARGV[1]) then begin(tonumber(ARGV[1])) end
if ARGV[1] == '0' then
  redis.call('ZREM', state, 'S')
elseif lineage ~= ARGV[1] and not sweep_until() then
  redis.call('ZADD', state, 0, 'S')
end
return lineage
