"""What may differ between Redis and Terrace, and which outcomes a command cannot have.

Each entry has its reason. Entries that no longer hold fail the tests, so the lists are
no longer than they have to be.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    "MEMORY MALLOC-STATS": "depends on the state of the process",
    "SLOWLOG LEN": "depends on the speed of the machine",
    "RANDOMKEY": "random",
    "XINFO": "idle times, and the size of radix trees",
    "XPENDING": "idle times",
    "SRANDMEMBER": "random where the mutated line asks for more than one",
    "SPOP": "random where the mutated line asks a bigger set",
    "HRANDFIELD": "random",
    "ZRANDMEMBER": "random where the mutated line asks a bigger set",
    "ROLE": "replication offsets move",
    "OBJECT IDLETIME": "seconds pass between the two runs",
    "ACL GENPASS": "random",
    "LOLWUT": "on newer servers a work of chance",
}
# One error for another, where newer servers read the same words otherwise.
OTHER_WORDS = {
    "CLIENT LIST": (b"-ERR Invalid client ID\r\n", b"-ERR syntax error\r\n"),
    "CLIENT KILL": (b"-ERR client-id should be greater than 0\r\n", b"-ERR syntax error\r\n"),
}
# Compared as sets.
UNORDERED = {
    "ACL CAT": "the order of a hash table whose seed is random",
}
# Compared by their first byte.
TYPE_ONLY = {
    "COMMAND": "Terrace has commands of its own; sets come in no order",
    "COMMAND LIST": "Terrace has commands of its own",
    "COMMAND DOCS": "Terrace has commands of its own",
    "MEMORY STATS": "one line more for each database that was ever used",
}


@dataclass(frozen=True)
class Difference:
    """A dialogue that Terrace answers otherwise, and the words of docs/behaviour/ that say so.

    where   only where the server's own answer has this in it; else both must answer the same
    """

    dialogue: str
    explained: str
    where: bytes = b""


REPLICATION = "`SYNC`, `PSYNC`, `REPLCONF` and `SCRIPT DEBUG` are refused"
ONE_USER = 'while `acl.source` is "none"'
ANSWERED = "`NO-TOUCH` and `NO-EVICT` are answered"
UNKNOWN = b"unknown subcommand"
NOT_IN_MULTI = "Inside MULTI, Terrace refuses `ACL`, `AUTH`, `HELLO`"
CONFIRMED = "by a client without subscriptions are confirmed"
FILTERS = "`CLIENT LIST` and `KILL` take the filters of Valkey 9"
DIFFERENCES = (
    Difference("SYNC", REPLICATION),
    Difference("PSYNC ? -1", REPLICATION),
    Difference("REPLCONF LISTENING-PORT 1", REPLICATION),
    Difference("SCRIPT DEBUG NO", REPLICATION),
    Difference("MULTI ; ACL WHOAMI ; EXEC", NOT_IN_MULTI),
    Difference("MULTI ; AUTH secret ; EXEC", NOT_IN_MULTI),
    Difference("MULTI ; HELLO 2 ; EXEC", NOT_IN_MULTI),
    Difference("MULTI ; SUBSCRIBE a ; EXEC", "(P|S)SUBSCRIBE"),
    Difference("MULTI ; CLIENT TRACKING ON ; EXEC", "`CLIENT REPLY | TRACKING | UNBLOCK`"),
    Difference("MULTI ; CLIENT UNBLOCK 1 ; EXEC", "`CLIENT REPLY | TRACKING | UNBLOCK`"),
    Difference(
        "CLIENT REPLY OFF ; UNSUBSCRIBE a ; CLIENT REPLY ON", "are not confirmed", b"subscribe"
    ),
    Difference("UNSUBSCRIBE a", CONFIRMED, b"-NOSUB"),
    Difference("PUNSUBSCRIBE", CONFIRMED, b"-NOSUB"),
    Difference("SUNSUBSCRIBE", CONFIRMED, b"-NOSUB"),
    Difference("CLIENT SETINFO LIB-NAME x", ANSWERED, UNKNOWN),
    Difference("CLIENT SETINFO LIB-NAME 'a b'", ANSWERED, UNKNOWN),
    Difference("CLIENT SETINFO lib-ver ''", ANSWERED, UNKNOWN),
    Difference("CLIENT NO-TOUCH ON", ANSWERED, UNKNOWN),
    Difference("CLIENT NO-TOUCH maybe", ANSWERED, UNKNOWN),
    Difference("CLIENT LIST DB 0", FILTERS, b"-ERR"),
    Difference("CLIENT LIST TYPE primary", FILTERS, b"-ERR"),
    Difference("CLIENT KILL NAME nobody", FILTERS, b"-ERR"),
    Difference("CLIENT KILL MAXAGE 1000000", FILTERS, b"-ERR"),
    Difference("CONFIG GET *", "Terrace's options as `terrace.…`"),
    Difference("CONFIG GET terrace.listen.port", "Terrace's options as `terrace.…`"),
    Difference("CONFIG SET terrace.listen.port 1", "`CONFIG SET terrace.…` is an error"),
    Difference("COMMAND COUNT", "`COMMAND` the commands of Terrace"),
    Difference("INFO tiers", "`INFO` has one more section"),
    Difference("TIER.STATS", "`COMMAND` the commands of Terrace"),
    Difference("ACL SAVE", ONE_USER),
    Difference("ACL LOAD", ONE_USER),
    Difference("ACL SETUSER bob on", ONE_USER),
    Difference("ACL DELUSER bob", ONE_USER),
)

_NO_CLUSTER = "the server is no cluster"
_CLUSTER = """
ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNT-FAILURE-REPORTS COUNTKEYSINSLOT DELSLOTS DELSLOTSRANGE
FAILOVER FLUSHSLOTS FORGET GETKEYSINSLOT HELP INFO KEYSLOT LINKS MEET MYID NODES REPLICAS
REPLICATE RESET SAVECONFIG SET-CONFIG-EPOCH SETSLOT SHARDS SLAVES SLOTS
"""
# Commands, and subcommands as "NAME SUB", that the plain server of the tests cannot be seen
# to carry out.
NO_SUCCESS = {
    "SYNC": "a replication stream",
    "PSYNC": "a replication stream",
    "REPLCONF": "part of a replication stream",
    "MONITOR": "streams what others do; tested in test_pubsub",
    "SHUTDOWN": "would end the server",
    "FAILOVER": "there is no replica",
    "DEBUG": "not allowed by default",
    "ASKING": _NO_CLUSTER,
    "READONLY": _NO_CLUSTER,
    "READWRITE": _NO_CLUSTER,
    "CLUSTER": _NO_CLUSTER,
    **{f"CLUSTER {sub}": _NO_CLUSTER for sub in _CLUSTER.split()},
    "MODULE LOAD": "not allowed by default",
    "MODULE LOADEX": "not allowed by default",
    "MODULE UNLOAD": "no module is loaded",
    "SCRIPT DEBUG": "among the differences",
    "SCRIPT KILL": "no script runs; tested in test_scripts",
    "FUNCTION KILL": "no function runs",
    "CONFIG REWRITE": "the server has no file",
    "LATENCY GRAPH": "nothing was slow",
    "ACL LOAD": "the server has no file",
    "ACL SAVE": "the server has no file",
    "ACL SETUSER": "among the differences",
    "ACL DELUSER": "among the differences",
}
# Commands whose wrong arity is not answered by Redis' own error.
NO_ARITY_ERROR = {
    "SYNC": "refused whatever the arguments are",
    "PSYNC": "refused whatever the arguments are",
}
# Commands of a type that take keys of any type all the same.
NO_WRONGTYPE = {
    "MGET": "nil where there is no string",
    "MSET": "overwrites",
    "MSETNX": "overwrites nothing",
    "SETEX": "overwrites",
    "PSETEX": "overwrites",
    "SETNX": "overwrites nothing",
    "LCS": "has its own text for that",
}
_NOTHING_WRONG = """
    APPEND BGREWRITEAOF DBSIZE DEL DUMP ECHO EXISTS EXPIRETIME GEOHASH GEOPOS GETDEL GETSET
    HDEL HEXISTS HGET HGETALL HKEYS HLEN HMGET HMSET HSET HSETNX HSTRLEN HVALS INFO KEYS
    LASTSAVE LLEN LPUSH LPUSHX MGET MONITOR MSET MSETNX PERSIST PEXPIRETIME PFADD PFCOUNT
    PFMERGE PFSELFTEST PING PSUBSCRIBE PSYNC PTTL PUNSUBSCRIBE QUIT RANDOMKEY REPLCONF RESET
    ROLE RPOPLPUSH RPUSH RPUSHX SADD SAVE SCARD SDIFF SDIFFSTORE SETNX SINTER SINTERSTORE
    SISMEMBER SMEMBERS SMISMEMBER SMOVE SPUBLISH SREM SSUBSCRIBE STRLEN SUBSCRIBE SUNION
    SUNIONSTORE SUNSUBSCRIBE SYNC TIME TOUCH TTL TYPE UNLINK UNSUBSCRIBE UNWATCH XLEN ZCARD
    ZMSCORE ZRANK ZREM ZREVRANK ZSCORE
"""
NO_OTHER_ERROR = dict.fromkeys(
    _NOTHING_WRONG.split(), "takes no option, number or state that could be wrong"
)
