-- The lineage that the table is to have: a newer one, where the data here is older than the table.
--
-- KEYS[1]  state of the store, see state.lua
-- ARGV[1]  lineage of the table; '0' for none: then nothing here can be older
-- Returns the lineage. Where it is not that of the table, keys of another one may be left here.
if tonumber(lineage) < tonumber(ARGV[1]) then begin(tonumber(ARGV[1])) end
if ARGV[1] == '0' then
  redis.call('ZREM', state, 'S')
elseif lineage ~= ARGV[1] and not sweep_until() then
  redis.call('ZADD', state, 0, 'S')
end
return lineage
