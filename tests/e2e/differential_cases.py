"""The corpus of the differential test: command lines, and what may differ and why.

Lines are written as in a shell. Before each line the SEED is loaded again. In blocks
that are mutated, the line is followed by variants of itself: one argument more, the
last one missing or wrong, and its first key replaced by keys of other types. So one
line covers the success, the syntax errors and WRONGTYPE.
"""

from __future__ import annotations

from dataclasses import dataclass

SEED = """
SET string 'hello world'
SET number 42
SET float 10.5
SET bits foobar
SET volatile v EX 1000
RPUSH list a b c d b
RPUSH list2 x y
HSET hash f1 v1 f2 v2 n 5
SADD set a b c
SADD set2 b c d
SADD single x
SADD ints 1 2 3
ZADD zset 1 a 2 b 3 c
ZADD zset2 2 b 4 d
ZADD lex 0 a 0 b 0 c
ZADD one 1 m
XADD stream 1-1 f v
XADD stream 2-1 f w
XGROUP CREATE stream group 0
GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
PFADD hll a b c
PFADD hll2 c d
"""


@dataclass(frozen=True)
class Block:
    name: str
    lines: str
    mutated: bool = True
    redis7: bool = False


BLOCKS = (
    Block(
        "string",
        """
GET string
GET absent
GETRANGE string 0 4
GETRANGE string -3 -1
SUBSTR string 0 4
STRLEN string
STRLEN absent
SET string other
SET string other NX
SET string other XX GET
SET fresh v PX 100000 NX
SET string v EX 0
SET string v EX abc
SET string v NX XX
SET string v KEEPTTL
SETNX fresh v
SETNX string v
SETEX string 100 v
SETEX string 0 v
PSETEX string 100000 v
PSETEX string -1 v
SETRANGE string 6 Redis
SETRANGE string -1 x
GETSET string v
GETDEL string
GETEX string EX 100
GETEX string PERSIST
APPEND string tail
APPEND fresh head
INCR number
INCR string
INCRBY number 5
INCRBY number 9223372036854775807
INCRBYFLOAT float 0.25
INCRBYFLOAT string 1
DECR number
DECRBY number 7
MGET string absent list number
MGET string string
MSET a 1 b 2
MSET a 1 b
MSETNX a 1 string 2
MSETNX a 1 b 2
LCS string bits
LCS string bits LEN
""",
    ),
    Block(
        "bitmap",
        """
GETBIT bits 7
GETBIT bits -1
SETBIT bits 7 1
SETBIT bits 4294967296 1
SETBIT bits 7 2
BITCOUNT bits
BITCOUNT bits 0 0
BITCOUNT bits 5 30 BIT
BITPOS bits 1
BITPOS bits 1 2
BITPOS bits 2
BITOP AND dest bits string
BITOP NOT dest bits string
BITOP NAND dest bits
BITFIELD bits INCRBY u2 0 1 OVERFLOW FAIL GET u8 0
BITFIELD bits GET u64 0
BITFIELD_RO bits GET u8 0
BITFIELD_RO bits SET u8 0 1
""",
    ),
    Block(
        "list",
        """
LPUSH list z
RPUSH list z y
LPUSHX absent z
RPUSHX list z
LPOP list
LPOP list 2
LPOP absent
LPOP absent 2
RPOP list
RPOP list 0
LRANGE list 0 -1
LRANGE list 5 1
LLEN list
LINDEX list 1
LINDEX list 99
LINSERT list BEFORE b x
LINSERT list AROUND b x
LSET list 0 first
LSET list 99 x
LSET absent 0 x
LREM list 1 b
LTRIM list 1 2
LPOS list b
LPOS list b COUNT 0
LPOS list b RANK 0
LPOS list nothing
LMOVE list list2 LEFT RIGHT
LMOVE list list2 UP DOWN
RPOPLPUSH list list2
LMPOP 2 list list2 LEFT
LMPOP 0 list LEFT
LMPOP 1 absent LEFT COUNT 2
SORT list ALPHA
SORT list
SORT ints DESC STORE dest
SORT_RO ints LIMIT 0 2
SORT ints BY nosort
""",
    ),
    Block(
        "hash",
        """
HGET hash f1
HGET hash absent
HMGET hash f1 absent n
HGETALL hash
HGETALL absent
HKEYS hash
HVALS hash
HLEN hash
HEXISTS hash f1
HSTRLEN hash f1
HSET hash f3 v3 f1 changed
HSET hash f3
HMSET hash f3 v3
HMSET hash f3
HSETNX hash f1 v
HDEL hash f1 f9
HINCRBY hash n 3
HINCRBY hash f1 3
HINCRBYFLOAT hash n 0.5
HSCAN hash 0
HSCAN hash 0 MATCH f* COUNT 10
HRANDFIELD absent
HRANDFIELD absent 2
HRANDFIELD hash 3 WITHVALUES
""",
    ),
    Block(
        "set",
        """
SADD set d e
SREM set a z
SMEMBERS ints
SMEMBERS set
SMEMBERS absent
SISMEMBER set a
SMISMEMBER set a z
SCARD set
SMOVE set set2 a
SPOP single
SPOP single 2
SPOP absent
SPOP absent 1
SRANDMEMBER single
SRANDMEMBER single 1
SRANDMEMBER absent
SDIFF set set2
SINTER set set2
SUNION ints single
SINTERCARD 2 set set2
SINTERCARD 0 set
SDIFFSTORE dest set set2
SINTERSTORE dest set set2
SUNIONSTORE dest set set2
SSCAN ints 0
SSCAN ints x
""",
    ),
    Block(
        "zset",
        """
ZADD zset 4 d 5 e
ZADD zset NX 9 a
ZADD zset XX GT CH 9 a
ZADD zset INCR 1 a
ZADD zset NX XX 1 a
ZADD zset notafloat a
ZREM zset a z
ZCARD zset
ZSCORE zset a
ZSCORE zset absent
ZMSCORE zset a absent
ZINCRBY zset 1.5 a
ZINCRBY zset inf a
ZCOUNT zset -inf (3
ZCOUNT zset x y
ZLEXCOUNT lex - +
ZLEXCOUNT lex [b (c
ZRANGE zset 0 -1
ZRANGE zset 0 -1 WITHSCORES
ZRANGE zset 0 -1 REV
ZRANGE zset 1 3 BYSCORE LIMIT 0 2 WITHSCORES
ZRANGE lex [a [b BYLEX
ZRANGE absent 0 -1 WITHSCORES
ZRANGE zset 9 10 WITHSCORES
ZRANGEBYLEX lex - [b
ZRANGEBYSCORE zset 1 2
ZRANGEBYSCORE zset 1 2 WITHSCORES
ZRANGEBYSCORE zset 1 2 WITHSCORES LIMIT 1 1
ZREVRANGE zset 0 -1 WITHSCORES
ZREVRANGEBYLEX lex [b -
ZREVRANGEBYSCORE zset 3 1 WITHSCORES
ZRANK zset b
ZRANK zset absent
ZREVRANK zset b
ZRANGESTORE dest zset 0 1
ZREMRANGEBYLEX lex [a [b
ZREMRANGEBYRANK zset 0 0
ZREMRANGEBYSCORE zset 1 2
ZPOPMIN zset
ZPOPMIN zset 2
ZPOPMAX zset
ZPOPMAX zset 2
ZPOPMAX absent
ZMPOP 1 zset MIN
ZMPOP 1 absent MIN
ZDIFF 2 zset zset2
ZDIFF 2 zset zset2 WITHSCORES
ZDIFFSTORE dest 2 zset zset2
ZINTER 2 zset zset2 WITHSCORES
ZINTER 2 zset zset2 WEIGHTS 1
ZINTERCARD 2 zset zset2
ZINTERSTORE dest 2 zset zset2 AGGREGATE MAX
ZUNION 2 zset zset2 WITHSCORES
ZUNIONSTORE dest 2 zset zset2 WEIGHTS 2 3
ZUNIONSTORE dest 0 zset
ZRANDMEMBER one
ZRANDMEMBER one 1 WITHSCORES
ZRANDMEMBER absent
ZSCAN zset 0
""",
    ),
    Block(
        "stream",
        """
XADD stream 3-1 f x
XADD stream 1-1 f x
XADD stream 3-1 f
XADD absent NOMKSTREAM 1-1 f v
XADD stream MAXLEN 1 4-1 f v
XLEN stream
XRANGE stream - +
XRANGE stream 1 1 COUNT 1
XRANGE stream x y
XREVRANGE stream + -
XDEL stream 1-1
XTRIM stream MAXLEN 1
XTRIM stream MINID 2
XSETID stream 9-1
XREAD COUNT 1 STREAMS stream 0
XREAD STREAMS absent 0
XREAD STREAMS stream
XGROUP CREATE stream group2 $
XGROUP CREATE stream group $
XGROUP SETID stream group 1-1
XGROUP CREATECONSUMER stream group alice
XGROUP DELCONSUMER stream group alice
XGROUP DESTROY stream group
XREADGROUP GROUP group alice COUNT 1 STREAMS stream >
XREADGROUP GROUP nogroup alice STREAMS stream >
XACK stream group 1-1
XPENDING stream group
XPENDING stream nogroup
XCLAIM stream group alice 0 1-1
XAUTOCLAIM stream group alice 0 0
XINFO STREAM stream
XINFO GROUPS stream
XINFO CONSUMERS stream group
""",
    ),
    Block(
        "geo",
        """
GEOADD geo 2.3488 48.8534 Paris
GEOADD geo 200 100 Nowhere
GEODIST geo Palermo Catania
GEODIST geo Palermo Catania km
GEODIST geo Palermo Nowhere
GEOHASH geo Palermo Nowhere
GEOPOS geo Palermo Nowhere
GEOPOS absent Palermo
GEOSEARCH geo FROMLONLAT 15 37 BYRADIUS 200 km ASC
GEOSEARCH geo FROMMEMBER Palermo BYBOX 400 400 km ASC WITHCOORD WITHDIST WITHHASH
GEOSEARCHSTORE dest geo FROMLONLAT 15 37 BYRADIUS 200 km
GEORADIUS geo 15 37 200 km ASC
GEORADIUS geo 15 37 200 km STORE dest
GEORADIUS_RO geo 15 37 200 km WITHDIST ASC
GEORADIUSBYMEMBER geo Palermo 200 km ASC
GEORADIUSBYMEMBER_RO geo Palermo 200 km ASC
""",
    ),
    Block(
        "hyperloglog",
        """
PFADD hll d
PFADD hll
PFCOUNT hll
PFCOUNT hll hll2
PFMERGE dest hll hll2
""",
    ),
    Block(
        "keyspace",
        """
DEL string absent list
UNLINK string absent
EXISTS string
EXISTS string string absent
TYPE string
TYPE stream
TYPE absent
TOUCH string absent
RENAME string renamed
RENAME absent renamed
RENAMENX string number
RENAMENX string renamed
COPY string copied
COPY string number
COPY string number REPLACE
COPY string copied DB 1
MOVE string 1
MOVE string 0
MOVE string 999
EXPIRE string 100
EXPIRE string 100 XX
EXPIRE string -1
EXPIRE absent 100
PEXPIRE string 100000
EXPIREAT string 33177117420
PEXPIREAT string 33177117420000
EXPIRETIME string
PEXPIRETIME string
TTL string
TTL absent
PTTL string
PERSIST volatile
PERSIST string
DUMP string
DUMP absent
RESTORE fresh 0 garbage
OBJECT ENCODING ints
OBJECT REFCOUNT string
OBJECT FREQ string
OBJECT NOSUCH string
MEMORY USAGE string
KEYS str*
KEYS nothing*
DBSIZE
SCAN 0 COUNT 1000 MATCH string
SCAN x
SCAN 0 COUNT 0
SCAN 0 TYPE string MATCH volatile COUNT 1000
SELECT 0
""",
    ),
    Block(
        "scripting",
        """
EVAL 'return redis.call("get", KEYS[1])' 1 string
EVAL 'return {1, 2.5, "three", {4}, false, true}' 0
EVAL 'return redis.error_reply("MY own error")' 0
EVAL 'return nonsense(' 0
EVAL 'redis.call("set", "string", "by script") return redis.call("get", "string")' 0
EVAL 'return 1' -1
EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
EVAL_RO 'return redis.call("get", KEYS[1])' 1 string
EVAL_RO 'return redis.call("set", KEYS[1], 1)' 1 string
EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 0
SCRIPT LOAD 'return 7'
SCRIPT EXISTS ffffffffffffffffffffffffffffffffffffffff
SCRIPT NOSUCH
FUNCTION LIST
FUNCTION LOAD '#!lua name=l\\nredis.register_function("f", function(k, a) return 1 end)'
FUNCTION DELETE nolib
FCALL nofunction 0
FCALL_RO nofunction 0
""",
        mutated=False,
    ),
    Block(
        "connection",
        """
PING
PING message
PING two messages
ECHO message
echo MESSAGE
SELECT 1
SELECT 99
SELECT -1
SELECT abc
CLIENT GETNAME
CLIENT SETNAME name
CLIENT SETNAME 'two words'
CLIENT ID
CLIENT ID x
CLIENT INFO
CLIENT LIST
CLIENT LIST TYPE normal
CLIENT LIST TYPE nonsense
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID 0
CLIENT KILL ID 999999
CLIENT KILL ID x
CLIENT KILL ID 5 FOO
CLIENT KILL ADDR 1.2.3.4:5 LADDR 1.2.3.4:5 TYPE normal USER default SKIPME yes
CLIENT KILL TYPE nonsense
CLIENT KILL USER nobody
CLIENT KILL SKIPME maybe
CLIENT KILL MAXAGE 1
CLIENT LIST ID
CLIENT LIST ID x
CLIENT LIST TYPE
CLIENT LIST NONSENSE x
CLIENT PAUSE x
CLIENT PAUSE 1.5
CLIENT PAUSE -1
CLIENT PAUSE 99999999999999999999
CLIENT PAUSE 1 SOME
CLIENT PAUSE 0
CLIENT NO-EVICT ON
CLIENT NO-EVICT maybe
CLIENT TRACKINGINFO
CLIENT TRACKING ON
CLIENT TRACKING maybe
CLIENT CACHING YES
CLIENT GETREDIR
CLIENT UNBLOCK 999999
CLIENT UNBLOCK x
CLIENT UNPAUSE
CLIENT NOSUCH
CLIENT
AUTH secret
AUTH nobody secret
AUTH a b c
HELLO 4
HELLO abc
HELLO 3 NOSUCH
HELLO 3 SETNAME 'two words'
HELLO
RESET
QUIT now
ASKING
READONLY
READWRITE
""",
        mutated=False,
        redis7=True,
    ),
    Block(
        "server",
        """
ACL WHOAMI
ACL CAT nonsense
CONFIG GET maxmemory
CONFIG GET nonsense
CONFIG SET nonsense 1
CONFIG NOSUCH
LASTSAVE
LATENCY RESET
LOLWUT VERSION 1
MEMORY DOCTOR
PUBSUB CHANNELS
PUBSUB NUMSUB channel
PUBSUB NUMPAT
ROLE
SLOWLOG LEN
SLOWLOG NOSUCH
TIME
RANDOMKEY
INFO server
INFO nonsense
COMMAND COUNT
COMMAND LIST
COMMAND LIST FILTERBY PATTERN xgroup*
COMMAND INFO get nosuch
COMMAND GETKEYS MSET a 1 b 2
COMMAND GETKEYS GET
COMMAND DOCS nosuch
COMMAND NOSUCH
WAIT 0 0
WAIT x 0
BGSAVE NONSENSE
BGREWRITEAOF x
SAVE x
CLUSTER INFO
CLUSTER NOSUCH
DEBUG SLEEP
FAILOVER NONSENSE
MIGRATE 127.0.0.1 1 absent 0 10
MODULE LIST
MODULE NOSUCH
PFSELFTEST x
PFDEBUG ENCODING string
REPLICAOF no one two
REPLICAOF 127.0.0.1 notaport
SLAVEOF 127.0.0.1 notaport
RESTORE-ASKING fresh 0 garbage
SHUTDOWN NONSENSE
FLUSHDB
FLUSHDB ASYNC
FLUSHDB NONSENSE
FLUSHALL
FLUSHALL SYNC
FLUSHALL NONSENSE
SWAPDB 0 1
SWAPDB 0 x
SPUBLISH channel message
PUBLISH channel message
NOSUCHCOMMAND
NOSUCHCOMMAND with 'some arguments' and more
json.set key $ 1
""",
        mutated=False,
        redis7=True,
    ),
    Block(
        "blocking",
        """
BLPOP list 1
BLPOP absent list 1
BLPOP absent 0.01
BLPOP list x
BLPOP string 1
BRPOP list 1
BRPOP list -1
BLMOVE list list2 LEFT RIGHT 1
BLMOVE absent list2 LEFT RIGHT 0.01
BRPOPLPUSH list list2 1
BRPOPLPUSH absent list2 0.01
BLMPOP 1 2 absent list LEFT
BLMPOP 0.01 1 absent LEFT
BZPOPMIN zset 1
BZPOPMIN absent 0.01
BZPOPMAX zset 1
BZMPOP 1 1 zset MIN
BZMPOP 0.01 1 absent MIN
XREAD BLOCK 10 STREAMS stream $
XREAD BLOCK 10 STREAMS stream 1-1
XREADGROUP GROUP group alice BLOCK 10 STREAMS stream >
""",
        mutated=False,
    ),
)

# Lines of one dialogue each, on one connection, separated by semicolons.
DIALOGUES = {
    "transactions": """
MULTI ; SET string 1 ; GET string ; EXEC ; GET string
MULTI ; SET string 1 ; DISCARD ; GET string
MULTI ; GET ; SET string 1 ; EXEC ; GET string
MULTI ; NOSUCHCOMMAND ; EXEC
MULTI ; LPUSH string x ; GET number ; EXEC
MULTI ; MULTI ; EXEC
MULTI ; WATCH string ; EXEC
MULTI ; EXEC
EXEC
DISCARD
EXEC now
MULTI now
WATCH string ; SET string mine ; MULTI ; GET string ; EXEC
WATCH string ; UNWATCH ; SET string mine ; MULTI ; GET string ; EXEC
WATCH string ; DISCARD ; MULTI ; GET string ; EXEC
WATCH
UNWATCH
GET string ; MULTI ; INCR number ; ZRANGE zset 0 -1 WITHSCORES ; HGETALL hash ; EXEC ; GET number
MULTI ; SELECT 1 ; SET elsewhere 1 ; EXEC ; GET elsewhere ; SELECT 0 ; GET elsewhere
MULTI ; EVAL 'return redis.call("set", "string", "x")' 0 ; EXEC ; GET string
MULTI ; BLPOP absent 0 ; BLPOP list 0 ; EXEC
MULTI ; PING ; ECHO x ; FLUSHALL ; EXEC ; GET string
MULTI ; SET string 1 ; EXEC ; MULTI ; SET string 2 ; EXEC ; GET string
MULTI ; RENAME string moved ; EXEC ; GET string ; GET moved
MULTI ; EXPIRE string 0 ; EXEC ; GET string
MULTI ; WATCH ; SET string 1 ; EXEC ; GET string
MULTI ; SUBSCRIBE ; SET string 1 ; EXEC ; GET string
MULTI ; SELECT ; SET string 1 ; EXEC ; GET string
MULTI ; SET string 1 ; EXEC now ; EXEC ; GET string
MULTI ; SET string 1 ; DISCARD now ; EXEC ; GET string
MULTI ; SET string 1 ; RESET ; EXEC ; GET string
MULTI ; SET string 1 ; QUIT
MULTI ; GET string ; UNWATCH ; EXEC
WATCH string ; MULTI ; SET string 1 ; EXEC ; MULTI ; GET string ; EXEC
""",
    "pubsub": """
SUBSCRIBE a ; UNSUBSCRIBE a ; GET string
SUBSCRIBE a b a ; UNSUBSCRIBE b ; UNSUBSCRIBE a
SUBSCRIBE a ; PING ; PING text ; UNSUBSCRIBE
SUBSCRIBE a ; PSUBSCRIBE p* ; PUNSUBSCRIBE ; UNSUBSCRIBE ; SET string 1 ; GET string
PSUBSCRIBE p* q* ; PUNSUBSCRIBE p* q* ; GET string
UNSUBSCRIBE
UNSUBSCRIBE a b
PUNSUBSCRIBE
SUBSCRIBE
PSUBSCRIBE
SUBSCRIBE a ; RESET ; GET string
SUBSCRIBE a ; QUIT
""",
    "shard pubsub": """
SSUBSCRIBE s ; SUNSUBSCRIBE s
SUNSUBSCRIBE
""",
    "subscribed": """
SUBSCRIBE a ; GET string ; UNSUBSCRIBE a
SUBSCRIBE a ; MULTI ; DISCARD ; UNSUBSCRIBE a
SUBSCRIBE a ; NOSUCHCOMMAND ; UNSUBSCRIBE a
PSUBSCRIBE a* ; SELECT 1 ; PUNSUBSCRIBE
SUBSCRIBE a ; PUBLISH a x ; UNSUBSCRIBE a
""",
    "state": """
SELECT 1 ; SET k v ; GET k ; SELECT 0 ; GET k ; SELECT 1 ; GET k ; FLUSHDB ; GET k
CLIENT SETNAME me ; CLIENT GETNAME ; RESET ; CLIENT GETNAME
MULTI ; CLIENT SETNAME me ; CLIENT GETNAME ; SET string 1 ; EXEC ; CLIENT GETNAME
MULTI ; CLIENT NO-EVICT on ; EXEC
MULTI ; CLIENT SETNAME me ; DISCARD ; CLIENT GETNAME
MULTI ; CLIENT SETNAME 'two words' ; CLIENT KILL 1.2.3.4:5 ; EXEC ; CLIENT GETNAME
MULTI ; CLIENT SETNAME ; EXEC
MULTI ; CLIENT GETREDIR ; CLIENT TRACKINGINFO ; CLIENT CACHING yes ; EXEC
MULTI ; CLIENT PAUSE 0 ; CLIENT UNPAUSE ; EXEC
CLIENT REPLY SKIP ; SET string 1 ; GET string
CLIENT REPLY OFF ; SET string 1 ; GET string ; CLIENT REPLY ON ; GET string
CLIENT REPLY nonsense ; GET string
HELLO 3 ; HGETALL hash ; GET absent ; HELLO 2 ; HGETALL hash ; GET absent
HELLO 2 ; ZRANGE zset 0 -1 WITHSCORES ; HELLO 3 ; ZRANGE zset 0 -1 WITHSCORES
GET string ; GET string ; SET string x ; GET string ; DEL string ; GET string ; GET string
GET string ; EVAL 'redis.call("set", "string", "y")' 0 ; GET string
HGETALL hash ; HGETALL hash ; HSET hash f1 new ; HGETALL hash ; HDEL hash f1 f2 n ; HGETALL hash
MGET string number ; MGET string number ; INCR number ; MGET string number
GET string ; RENAME number string ; GET string ; GET number
GET string ; PEXPIRE string 0 ; GET string ; EXISTS string ; TYPE string
GET string ; FLUSHALL ; GET string ; SWAPDB 0 1 ; GET string
SMEMBERS ints ; SORT ints DESC STORE ints ; TYPE ints ; LRANGE ints 0 -1
get string ; Get string ; gEt string ; SET string z ; gEt string
GET string ; QUIT
""",
}

NEED_REDIS_7 = ("shard pubsub",)

# Compared by the shape of the reply: types and lengths of aggregates, not the scalars.
SHAPE_ONLY = {
    "PTTL": "milliseconds pass between the two runs",
    "TTL": "as PTTL, across a second",
    "EXPIRETIME": "absolute time of a relative expiry",
    "PEXPIRETIME": "absolute time of a relative expiry",
    "TIME": "the clock",
    "LASTSAVE": "the clock",
    "CLIENT ID": "Terrace numbers its own clients",
    "HELLO": "the id is Terrace's own",
    "INFO": "counters; the Tiers section",
    "CLIENT INFO": "ids, addresses, buffers",
    "CLIENT LIST": "ids, addresses, buffers",
    "COMMAND COUNT": "Terrace has commands of its own",
    "MEMORY USAGE": "depends on what the allocator had at hand",
    "MEMORY DOCTOR": "depends on the state of the process",
    "SLOWLOG LEN": "depends on the speed of the machine",
    "RANDOMKEY": "random",
    "XINFO": "idle times, and the size of radix trees",
    "XPENDING": "idle times",
    "SRANDMEMBER": "random where the mutated line asks for more than one",
    "SPOP": "random where the mutated line asks a bigger set",
    "HRANDFIELD": "random",
    "ZRANDMEMBER": "random where the mutated line asks a bigger set",
    "ROLE": "replication offsets move",
}
# Compared by their first byte.
TYPE_ONLY = {
    "COMMAND LIST": "Terrace has commands of its own",
}
# Rows of the command table that have no line above, or none that succeeds.
NOT_COVERED = {
    "SYNC": "refused: a replication stream cannot pass the proxy",
    "PSYNC": "refused: a replication stream cannot pass the proxy",
    "REPLCONF": "refused: a replication stream cannot pass the proxy",
    "MONITOR": "streams what others do; tested in test_pubsub",
}
# Rows whose wrong arity is not answered by Redis' own error.
NO_ARITY_ERROR = {
    "SYNC": "refused whatever the arguments are",
    "PSYNC": "refused whatever the arguments are",
}
