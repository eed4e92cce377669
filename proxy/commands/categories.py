"""What access control needs to know of every command, as data.

One line per command or subcommand of Redis 7.0.15, written from its COMMAND reply
(tests/proxy/command_rows.py does it, and a test compares): name, arity, categories,
then where keys and channels are and what is done to them.

  R:1            the key at argument 1 is read (R), written (W), both, or neither (-)
  W:1..-1/2      keys from argument 1 to the last one (-1), every second one
  R:2#           argument 2 is the number of keys that follow it
  ?              depends on the other arguments: a function in `command_access` finds them
  &1  &*1..-1    a channel; channel patterns
  no_auth        open to everybody
"""

CATEGORIES = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip

REDIS_ROWS = """\
acl -2 @slow
acl|cat -2 @slow
acl|deluser -3 @admin @slow @dangerous
acl|dryrun -4 @admin @slow @dangerous
acl|genpass -2 @slow
acl|getuser 3 @admin @slow @dangerous
acl|help 2 @slow
acl|list 2 @admin @slow @dangerous
acl|load 2 @admin @slow @dangerous
acl|log -2 @admin @slow @dangerous
acl|save 2 @admin @slow @dangerous
acl|setuser -3 @admin @slow @dangerous
acl|users 2 @admin @slow @dangerous
acl|whoami 2 @slow
append 3 @write @string @fast W:1
asking 1 @fast @connection
auth -2 @fast @connection no_auth
bgrewriteaof 1 @admin @slow @dangerous
bgsave -1 @admin @slow @dangerous
bitcount -2 @read @bitmap @slow R:1
bitfield -2 @write @bitmap @slow ?
bitfield_ro -2 @read @bitmap @fast R:1
bitop -4 @write @bitmap @slow W:2 R:3..-1
bitpos -3 @read @bitmap @slow R:1
blmove 6 @write @list @slow @blocking RW:1 W:2
blmpop -5 @write @list @slow @blocking RW:2#
blpop -3 @write @list @slow @blocking RW:1..-2
brpop -3 @write @list @slow @blocking RW:1..-2
brpoplpush 4 @write @list @slow @blocking RW:1 W:2
bzmpop -5 @write @sortedset @slow @blocking RW:2#
bzpopmax -3 @write @sortedset @fast @blocking RW:1..-2
bzpopmin -3 @write @sortedset @fast @blocking RW:1..-2
client -2 @slow
client|caching 3 @slow @connection
client|getname 2 @slow @connection
client|getredir 2 @slow @connection
client|help 2 @slow @connection
client|id 2 @slow @connection
client|info 2 @slow @connection
client|kill -3 @admin @slow @dangerous @connection
client|list -2 @admin @slow @dangerous @connection
client|no-evict 3 @admin @slow @dangerous @connection
client|pause -3 @admin @slow @dangerous @connection
client|reply 3 @slow @connection
client|setname 3 @slow @connection
client|tracking -3 @slow @connection
client|trackinginfo 2 @slow @connection
client|unblock -3 @admin @slow @dangerous @connection
client|unpause 2 @admin @slow @dangerous @connection
cluster -2 @slow
cluster|addslots -3 @admin @slow @dangerous
cluster|addslotsrange -4 @admin @slow @dangerous
cluster|bumpepoch 2 @admin @slow @dangerous
cluster|count-failure-reports 3 @admin @slow @dangerous
cluster|countkeysinslot 3 @slow
cluster|delslots -3 @admin @slow @dangerous
cluster|delslotsrange -4 @admin @slow @dangerous
cluster|failover -2 @admin @slow @dangerous
cluster|flushslots 2 @admin @slow @dangerous
cluster|forget 3 @admin @slow @dangerous
cluster|getkeysinslot 4 @slow
cluster|help 2 @slow
cluster|info 2 @slow
cluster|keyslot 3 @slow
cluster|links 2 @slow
cluster|meet -4 @admin @slow @dangerous
cluster|myid 2 @slow
cluster|nodes 2 @slow
cluster|replicas 3 @admin @slow @dangerous
cluster|replicate 3 @admin @slow @dangerous
cluster|reset -2 @admin @slow @dangerous
cluster|saveconfig 2 @admin @slow @dangerous
cluster|set-config-epoch 3 @admin @slow @dangerous
cluster|setslot -4 @admin @slow @dangerous
cluster|shards 2 @slow
cluster|slaves 3 @admin @slow @dangerous
cluster|slots 2 @slow
command -1 @slow @connection
command|count 2 @slow @connection
command|docs -2 @slow @connection
command|getkeys -4 @slow @connection
command|getkeysandflags -4 @slow @connection
command|help 2 @slow @connection
command|info -2 @slow @connection
command|list -2 @slow @connection
config -2 @slow
config|get -3 @admin @slow @dangerous
config|help 2 @slow
config|resetstat 2 @admin @slow @dangerous
config|rewrite 2 @admin @slow @dangerous
config|set -4 @admin @slow @dangerous
copy -3 @keyspace @write @slow R:1 W:2
dbsize 1 @keyspace @read @fast
debug -2 @admin @slow @dangerous
decr 2 @write @string @fast RW:1
decrby 3 @write @string @fast RW:1
del -2 @keyspace @write @slow W:1..-1
discard 1 @fast @transaction
dump 2 @keyspace @read @slow R:1
echo 2 @fast @connection
eval -3 @slow @scripting RW:2#
eval_ro -3 @slow @scripting R:2#
evalsha -3 @slow @scripting RW:2#
evalsha_ro -3 @slow @scripting R:2#
exec 1 @slow @transaction
exists -2 @keyspace @read @fast -:1..-1
expire -3 @keyspace @write @fast W:1
expireat -3 @keyspace @write @fast W:1
expiretime 2 @keyspace @read @fast R:1
failover -1 @admin @slow @dangerous
fcall -3 @slow @scripting RW:2#
fcall_ro -3 @slow @scripting R:2#
flushall -1 @keyspace @write @slow @dangerous
flushdb -1 @keyspace @write @slow @dangerous
function -2 @slow
function|delete 3 @write @slow @scripting
function|dump 2 @slow @scripting
function|flush -2 @write @slow @scripting
function|help 2 @slow @scripting
function|kill 2 @slow @scripting
function|list -2 @slow @scripting
function|load -3 @write @slow @scripting
function|restore -3 @write @slow @scripting
function|stats 2 @slow @scripting
geoadd -5 @write @geo @slow W:1
geodist -4 @read @geo @slow R:1
geohash -2 @read @geo @slow R:1
geopos -2 @read @geo @slow R:1
georadius -6 @write @geo @slow ?
georadius_ro -6 @read @geo @slow R:1
georadiusbymember -5 @write @geo @slow ?
georadiusbymember_ro -5 @read @geo @slow R:1
geosearch -7 @read @geo @slow R:1
geosearchstore -8 @write @geo @slow W:1 R:2
get 2 @read @string @fast R:1
getbit 3 @read @bitmap @fast R:1
getdel 2 @write @string @fast RW:1
getex -2 @write @string @fast RW:1
getrange 4 @read @string @slow R:1
getset 3 @write @string @fast RW:1
hdel -3 @write @hash @fast W:1
hello -1 @fast @connection no_auth
hexists 3 @read @hash @fast -:1
hget 3 @read @hash @fast R:1
hgetall 2 @read @hash @slow R:1
hincrby 4 @write @hash @fast RW:1
hincrbyfloat 4 @write @hash @fast RW:1
hkeys 2 @read @hash @slow R:1
hlen 2 @read @hash @fast -:1
hmget -3 @read @hash @fast R:1
hmset -4 @write @hash @fast W:1
hrandfield -2 @read @hash @slow R:1
hscan -3 @read @hash @slow R:1
hset -4 @write @hash @fast W:1
hsetnx 4 @write @hash @fast W:1
hstrlen 3 @read @hash @fast -:1
hvals 2 @read @hash @slow R:1
incr 2 @write @string @fast RW:1
incrby 3 @write @string @fast RW:1
incrbyfloat 3 @write @string @fast RW:1
info -1 @slow @dangerous
keys 2 @keyspace @read @slow @dangerous
lastsave 1 @admin @fast @dangerous
latency -2 @slow
latency|doctor 2 @admin @slow @dangerous
latency|graph 3 @admin @slow @dangerous
latency|help 2 @slow
latency|histogram -2 @admin @slow @dangerous
latency|history 3 @admin @slow @dangerous
latency|latest 2 @admin @slow @dangerous
latency|reset -2 @admin @slow @dangerous
lcs -3 @read @string @slow R:1..1
lindex 3 @read @list @slow R:1
linsert 5 @write @list @slow W:1
llen 2 @read @list @fast -:1
lmove 5 @write @list @slow RW:1 W:2
lmpop -4 @write @list @slow RW:1#
lolwut -1 @read @fast
lpop -2 @write @list @fast RW:1
lpos -3 @read @list @slow R:1
lpush -3 @write @list @fast W:1
lpushx -3 @write @list @fast W:1
lrange 4 @read @list @slow R:1
lrem 4 @write @list @slow W:1
lset 4 @write @list @slow W:1
ltrim 4 @write @list @slow W:1
memory -2 @slow
memory|doctor 2 @slow
memory|help 2 @slow
memory|malloc-stats 2 @slow
memory|purge 2 @slow
memory|stats 2 @slow
memory|usage -3 @read @slow -:2
mget -2 @read @string @fast R:1..-1
migrate -6 @keyspace @write @slow @dangerous ?
module -2 @slow
module|help 2 @slow
module|list 2 @admin @slow @dangerous
module|load -3 @admin @slow @dangerous
module|loadex -3 @admin @slow @dangerous
module|unload 3 @admin @slow @dangerous
monitor 1 @admin @slow @dangerous
move 3 @keyspace @write @fast RW:1
mset -3 @write @string @slow W:1..-1/2
msetnx -3 @write @string @slow W:1..-1/2
multi 1 @fast @transaction
object -2 @slow
object|encoding 3 @keyspace @read @slow -:2
object|freq 3 @keyspace @read @slow -:2
object|help 2 @keyspace @slow
object|idletime 3 @keyspace @read @slow -:2
object|refcount 3 @keyspace @read @slow -:2
persist 2 @keyspace @write @fast W:1
pexpire -3 @keyspace @write @fast W:1
pexpireat -3 @keyspace @write @fast W:1
pexpiretime 2 @keyspace @read @fast R:1
pfadd -2 @write @hyperloglog @fast W:1
pfcount -2 @read @hyperloglog @slow R:1..-1
pfdebug 3 @write @hyperloglog @admin @slow @dangerous R:2
pfmerge -2 @write @hyperloglog @slow RW:1 R:2..-1
pfselftest 1 @hyperloglog @admin @slow @dangerous
ping -1 @fast @connection
psetex 4 @write @string @slow W:1
psubscribe -2 @pubsub @slow &*1..-1
psync -3 @admin @slow @dangerous
pttl 2 @keyspace @read @fast R:1
publish 3 @pubsub @fast &1
pubsub -2 @slow
pubsub|channels -2 @pubsub @slow
pubsub|help 2 @slow
pubsub|numpat 2 @pubsub @slow
pubsub|numsub -2 @pubsub @slow
pubsub|shardchannels -2 @pubsub @slow
pubsub|shardnumsub -2 @pubsub @slow
punsubscribe -1 @pubsub @slow
quit -1 @fast @connection no_auth
randomkey 1 @keyspace @read @slow
readonly 1 @fast @connection
readwrite 1 @fast @connection
rename 3 @keyspace @write @slow RW:1 W:2
renamenx 3 @keyspace @write @fast RW:1 W:2
replconf -1 @admin @slow @dangerous
replicaof 3 @admin @slow @dangerous
reset 1 @fast @connection no_auth
restore -4 @keyspace @write @slow @dangerous W:1
restore-asking -4 @keyspace @write @slow @dangerous W:1
role 1 @admin @fast @dangerous
rpop -2 @write @list @fast RW:1
rpoplpush 3 @write @list @slow RW:1 W:2
rpush -3 @write @list @fast W:1
rpushx -3 @write @list @fast W:1
sadd -3 @write @set @fast W:1
save 1 @admin @slow @dangerous
scan -2 @keyspace @read @slow
scard 2 @read @set @fast -:1
script -2 @slow
script|debug 3 @slow @scripting
script|exists -3 @slow @scripting
script|flush -2 @slow @scripting
script|help 2 @slow @scripting
script|kill 2 @slow @scripting
script|load 3 @slow @scripting
sdiff -2 @read @set @slow R:1..-1
sdiffstore -3 @write @set @slow W:1 R:2..-1
select 2 @fast @connection
set -3 @write @string @slow ?
setbit 4 @write @bitmap @slow RW:1
setex 4 @write @string @slow W:1
setnx 3 @write @string @fast W:1
setrange 4 @write @string @slow W:1
shutdown -1 @admin @slow @dangerous
sinter -2 @read @set @slow R:1..-1
sintercard -3 @read @set @slow R:1#
sinterstore -3 @write @set @slow W:1 R:2..-1
sismember 3 @read @set @fast -:1
slaveof 3 @admin @slow @dangerous
slowlog -2 @slow
slowlog|get -2 @admin @slow @dangerous
slowlog|help 2 @slow
slowlog|len 2 @admin @slow @dangerous
slowlog|reset 2 @admin @slow @dangerous
smembers 2 @read @set @slow R:1
smismember -3 @read @set @fast R:1
smove 4 @write @set @fast RW:1 W:2
sort -2 @write @set @sortedset @list @slow @dangerous ?
sort_ro -2 @read @set @sortedset @list @slow @dangerous ?
spop -2 @write @set @fast RW:1
spublish 3 @pubsub @fast &1
srandmember -2 @read @set @slow R:1
srem -3 @write @set @fast W:1
sscan -3 @read @set @slow R:1
ssubscribe -2 @pubsub @slow &1..-1
strlen 2 @read @string @fast -:1
subscribe -2 @pubsub @slow &1..-1
substr 4 @read @string @slow R:1
sunion -2 @read @set @slow R:1..-1
sunionstore -3 @write @set @slow W:1 R:2..-1
sunsubscribe -1 @pubsub @slow
swapdb 3 @keyspace @write @fast @dangerous
sync 1 @admin @slow @dangerous
time 1 @fast
touch -2 @keyspace @read @fast -:1..-1
ttl 2 @keyspace @read @fast R:1
type 2 @keyspace @read @fast -:1
unlink -2 @keyspace @write @fast W:1..-1
unsubscribe -1 @pubsub @slow
unwatch 1 @fast @transaction
wait 3 @slow @connection
watch -2 @fast @transaction -:1..-1
xack -4 @write @stream @fast W:1
xadd -5 @write @stream @fast W:1
xautoclaim -6 @write @stream @fast W:1
xclaim -6 @write @stream @fast W:1
xdel -3 @write @stream @fast W:1
xgroup -2 @slow
xgroup|create -5 @write @stream @slow W:2
xgroup|createconsumer 5 @write @stream @slow W:2
xgroup|delconsumer 5 @write @stream @slow W:2
xgroup|destroy 4 @write @stream @slow W:2
xgroup|help 2 @stream @slow
xgroup|setid -5 @write @stream @slow W:2
xinfo -2 @slow
xinfo|consumers 4 @read @stream @slow R:2
xinfo|groups 3 @read @stream @slow R:2
xinfo|help 2 @stream @slow
xinfo|stream -3 @read @stream @slow R:2
xlen 2 @read @stream @fast -:1
xpending -3 @read @stream @slow R:1
xrange -4 @read @stream @slow R:1
xread -4 @read @stream @slow @blocking ?
xreadgroup -7 @write @stream @slow @blocking ?
xrevrange -4 @read @stream @slow R:1
xsetid -3 @write @stream @fast W:1
xtrim -4 @write @stream @slow W:1
zadd -4 @write @sortedset @fast W:1
zcard 2 @read @sortedset @fast -:1
zcount 4 @read @sortedset @fast R:1
zdiff -3 @read @sortedset @slow R:1#
zdiffstore -4 @write @sortedset @slow W:1 R:2#
zincrby 4 @write @sortedset @fast RW:1
zinter -3 @read @sortedset @slow R:1#
zintercard -3 @read @sortedset @slow R:1#
zinterstore -4 @write @sortedset @slow W:1 R:2#
zlexcount 4 @read @sortedset @fast R:1
zmpop -4 @write @sortedset @slow RW:1#
zmscore -3 @read @sortedset @fast R:1
zpopmax -2 @write @sortedset @fast RW:1
zpopmin -2 @write @sortedset @fast RW:1
zrandmember -2 @read @sortedset @slow R:1
zrange -4 @read @sortedset @slow R:1
zrangebylex -4 @read @sortedset @slow R:1
zrangebyscore -4 @read @sortedset @slow R:1
zrangestore -5 @write @sortedset @slow W:1 R:2
zrank 3 @read @sortedset @fast R:1
zrem -3 @write @sortedset @fast W:1
zremrangebylex 4 @write @sortedset @slow W:1
zremrangebyrank 4 @write @sortedset @slow W:1
zremrangebyscore 4 @write @sortedset @slow W:1
zrevrange -4 @read @sortedset @slow R:1
zrevrangebylex -4 @read @sortedset @slow R:1
zrevrangebyscore -4 @read @sortedset @slow R:1
zrevrank 3 @read @sortedset @fast R:1
zscan -3 @read @sortedset @slow R:1
zscore 3 @read @sortedset @fast R:1
zunion -3 @read @sortedset @slow R:1#
zunionstore -4 @write @sortedset @slow W:1 R:2#
"""

# Terrace's own commands, and subcommands of CLIENT that it answers though Redis 7.0 has none.
TERRACE_ROWS = """\
client|no-touch 3 @slow @connection
client|setinfo 4 @slow @connection
tier.audit -1 @admin @slow @dangerous
tier.explain 2 @read @admin @slow @dangerous R:1
tier.invalidate -2 @write @admin @slow @dangerous ?
tier.refresh 2 @admin @slow @dangerous
tier.reload 1 @admin @slow @dangerous
tier.stats 1 @admin @slow @dangerous
tier.views 1 @admin @slow @dangerous
tier.warm -1 @write @admin @slow @dangerous
"""
