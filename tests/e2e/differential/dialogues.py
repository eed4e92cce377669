"""Cases of several commands on one connection: one dialogue a line, separated by semicolons."""
# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

DIALOGUES = {
    "transactions": r"""
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
    "scripts": r"""
SCRIPT LOAD 'return 7' ; EVALSHA 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9 0 ; EVALSHA_RO 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9 0 ; SCRIPT FLUSH ; EVALSHA 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9 0
EVAL 'return 7' 0 ; EVALSHA 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9 0
FUNCTION LOAD '#!lua name=l\nredis.register_function("f", function(k, a) return k end)' ; FCALL f 1 string ; FCALL_RO f 0 ; FUNCTION LIST ; FUNCTION DELETE l ; FCALL f 0
FUNCTION LOAD "#!lua name=l\nredis.register_function{function_name='r', callback=function(k, a) return redis.call('get', k[1]) end, flags={'no-writes'}}" ; FCALL_RO r 1 string ; FCALL r 1 list
""",
    "pubsub": r"""
SUBSCRIBE a ; UNSUBSCRIBE a ; GET string
SUBSCRIBE a b a ; UNSUBSCRIBE b ; UNSUBSCRIBE a
SUBSCRIBE a ; PING ; PING text ; UNSUBSCRIBE
SUBSCRIBE a ; PSUBSCRIBE p* ; PUNSUBSCRIBE ; UNSUBSCRIBE ; SET string 1 ; GET string
PSUBSCRIBE p* q* ; PUNSUBSCRIBE p* q* ; GET string
SUBSCRIBE
PSUBSCRIBE
SUBSCRIBE a ; RESET ; GET string
SUBSCRIBE a ; QUIT
""",
    "no-evict": r"""
MULTI ; CLIENT NO-EVICT on ; EXEC
""",
    "shard pubsub": r"""
SSUBSCRIBE s ; SUNSUBSCRIBE s
""",
    "not subscribed": r"""
UNSUBSCRIBE
UNSUBSCRIBE a b
PUNSUBSCRIBE
PUNSUBSCRIBE a*
""",
    "no shard subscribed": r"""
SUNSUBSCRIBE
SUNSUBSCRIBE s
""",
    "subscribed": r"""
SUBSCRIBE a ; GET string ; UNSUBSCRIBE a
SUBSCRIBE a ; MULTI ; DISCARD ; UNSUBSCRIBE a
SUBSCRIBE a ; NOSUCHCOMMAND ; UNSUBSCRIBE a
PSUBSCRIBE a* ; SELECT 1 ; PUNSUBSCRIBE
SUBSCRIBE a ; PUBLISH a x ; UNSUBSCRIBE a
""",
    "state": r"""
SELECT 1 ; SET k v ; GET k ; SELECT 0 ; GET k ; SELECT 1 ; GET k ; FLUSHDB ; GET k
CLIENT TRACKING ON OPTIN ; CLIENT CACHING YES ; GET string ; CLIENT TRACKING OFF
AUTH default anything ; AUTH default ; HELLO 3 AUTH default anything
CLIENT SETNAME me ; CLIENT GETNAME ; RESET ; CLIENT GETNAME
MULTI ; CLIENT SETNAME me ; CLIENT GETNAME ; SET string 1 ; EXEC ; CLIENT GETNAME
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

# What only newer servers have, between cached reads; elsewhere the errors are compared.
DIALOGUES["newer"] = r"""
GET string ; SET string v IFEQ 'hello world' ; GET string ; DELIFEQ string v ; GET string ; EXISTS string
MGET string number ; MSETEX 2 string x number y EX 100 ; MGET string number ; MSETEX 1 absent z NX ; MGET absent
MGET string absent ; MSETEX 2 string x absent y XX ; MGET string absent
HGETALL hash ; HSETEX hash EX 100 FIELDS 1 f1 new ; HGETALL hash ; HGETDEL hash FIELDS 1 f1 ; HGETALL hash
HGETALL hash ; HEXPIRE hash 0 FIELDS 1 f1 ; HGETALL hash ; HLEN hash ; HPEXPIREAT hash 1 FIELDS 2 f2 n ; HGETALL hash
HEXPIRE hash 100 FIELDS 1 f1 ; HGET hash f1 ; HPERSIST hash FIELDS 1 f1 ; HTTL hash FIELDS 1 f1 ; HGET hash f1
HMGET hash f1 f2 ; HGETEX hash EXAT 1 FIELDS 1 f1 ; HMGET hash f1 f2 ; HSETEX hash FNX FIELDS 1 f1 x ; HMGET hash f1 f2
MULTI ; HGETEX hash EX 100 FIELDS 1 f1 ; HGETALL hash ; HGETDEL hash FIELDS 3 f1 f2 n ; EXISTS hash ; EXEC ; HGETALL hash
MULTI ; MSETEX 1 string x ; DELIFEQ number 42 ; HSETEX hash FIELDS 1 f1 ; EXEC ; MGET string number
MULTI ; SET string x IFEQ no ; SET string y IFEQ 'hello world' GET ; EXEC ; GET string
WATCH string ; DELIFEQ string 'hello world' ; MULTI ; GET string ; EXEC
WATCH hash ; HEXPIRE hash 100 FIELDS 1 f1 ; MULTI ; HGET hash f1 ; EXEC
WATCH hash ; HTTL hash FIELDS 1 f1 ; MULTI ; HGET hash f1 ; EXEC
HELLO 3 ; HGETEX hash FIELDS 2 f1 no ; ZRANK zset b WITHSCORE ; HELLO 2 ; HGETEX hash FIELDS 2 f1 no ; ZRANK zset b WITHSCORE
VADD v VALUES 3 1 0 0 a ; VADD v VALUES 3 0 1 0 b ; VCARD v ; VDIM v ; TYPE v ; VREM v a ; VCARD v ; VISMEMBER v b ; DEL v
HELLO 3 ; VADD v VALUES 2 1 0 a SETATTR '{"year": 1}' ; VGETATTR v a ; VSIM v ELE a WITHSCORES ; VISMEMBER v a ; VEMB v a ; DEL v
MULTI ; VADD v VALUES 2 1 0 a ; VCARD v ; DEL v ; EXEC
SELECT 1 ; MSETEX 1 string elsewhere ; GET string ; HSETEX h FIELDS 1 a b ; HGETALL h ; SELECT 0 ; GET string
SELECT 1 ; DELIFEQ string no ; SELECT 0 ; GET string
SCRIPT LOAD 'return 7' ; SCRIPT SHOW 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9 ; SCRIPT EXISTS 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9
MULTI ; SCRIPT SHOW 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9 ; COMMANDLOG LEN large-reply ; EXEC
EVAL 'return server.call("get", KEYS[1])' 1 string ; EVAL 'server.call("set", KEYS[1], "x")' 1 string ; GET string
HGETALL hash ; EVAL 'return redis.pcall("hgetdel", KEYS[1], "FIELDS", 1, "f1")' 1 hash ; HGETALL hash
MULTI ; CLIENT CAPA redirect ; CLIENT GETNAME ; EXEC
MULTI ; CLIENT IMPORT-SOURCE OFF ; CLIENT GETNAME ; EXEC
MULTI ; WAITAOF 0 0 0 ; WAIT 0 0 ; EXEC
MULTI ; CLUSTERSCAN 0 ; HOTKEYS GET ; EXEC
SUBSCRIBE a ; HGETEX hash FIELDS 1 f1 ; MSETEX 1 string x ; UNSUBSCRIBE a ; GET string
CLIENT REPLY SKIP ; MSETEX 1 string x ; GET string
CLIENT REPLY OFF ; HGETDEL hash FIELDS 1 f1 ; CLIENT REPLY ON ; HGETALL hash
CLIENT TRACKING ON ; GET string ; GET string ; MSETEX 1 string x ; GET string ; CLIENT TRACKING OFF
CLIENT TRACKING ON ; HGETALL hash ; HGETALL hash ; HGETDEL hash FIELDS 1 f1 ; HGETALL hash ; CLIENT TRACKING OFF
XADD stream 3-1 f x ; XDELEX stream IDS 1 3-1 ; XLEN stream ; XREAD STREAMS stream + ; XLEN stream
SUBSTR string 0 3 ; GETRANGE string 0 3 ; GETEX string EX 100 ; GET string ; PERSIST string
BITOP DIFF dest string bits ; GET dest ; SUNIONCARD 2 set set2 ; SCARD set
"""
NEED_REDIS_7 = ("newer", "no shard subscribed", "no-evict", "shard pubsub", "scripts")
# Valkey 8.0 refuses these, see `allowances`.
NEED_CONFIRMATION = ("not subscribed", "no shard subscribed")
