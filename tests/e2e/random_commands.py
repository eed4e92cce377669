"""Random commands whose replies are the same on any two servers with the same data.

No clocks, no random replies, no order that depends on a server's hash seed: sets hold small
integers and hashes are small, expiries are far away or past.
"""

from __future__ import annotations

from hypothesis import strategies as st

Args = tuple[str, ...]

KEYS = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.sampled_from(["", "1", "7", "-3", "x", "hello", "1.5", "\r\n", "ÿ"])
NUMBERS = st.sampled_from(["0", "1", "2", "-1", "5", "x"])
FIELDS = st.sampled_from(["f", "g", "1"])
DBS = st.sampled_from(["0", "0", "1", "2"])
FAR = "33177117420000"  # milliseconds: year 3021


def command(name: str, *parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[Args]:
    fixed = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(st.just(name), *fixed)


SCRIPT_SET = 'return redis.call("set", KEYS[1], ARGV[1])'
SCRIPT_HIDDEN = 'redis.call("append", ARGV[1], "s") return redis.call("get", ARGV[1])'
SCRIPT_MOVE = 'return redis.pcall("rename", KEYS[1], KEYS[2])'

READS = st.one_of(
    command("GET", KEYS), command("GET", KEYS), command("GET", KEYS),
    command("MGET", KEYS, KEYS), command("STRLEN", KEYS), command("EXISTS", KEYS),
    command("EXISTS", KEYS, KEYS), command("TYPE", KEYS),
    command("GETRANGE", KEYS, NUMBERS, NUMBERS),
    command("HGET", KEYS, FIELDS), command("HGETALL", KEYS), command("HMGET", KEYS, FIELDS, FIELDS),
    command("LRANGE", KEYS, NUMBERS, NUMBERS), command("LLEN", KEYS),
    command("LINDEX", KEYS, NUMBERS),
    command("SMEMBERS", KEYS), command("SISMEMBER", KEYS, NUMBERS), command("SCARD", KEYS),
    command("ZRANGE", KEYS, "0", "-1", "WITHSCORES"), command("ZSCORE", KEYS, FIELDS),
    command("ZRANK", KEYS, FIELDS), command("XRANGE", KEYS, "-", "+"), command("XLEN", KEYS),
    command("PEXPIRETIME", KEYS), command("DBSIZE"), command("DUMP", KEYS),
    command("EVAL_RO", 'return redis.call("get", KEYS[1])', "1", KEYS),
)  # fmt: skip
WRITES = st.one_of(
    command("SET", KEYS, VALUES), command("SET", KEYS, VALUES), command("SET", KEYS, VALUES, "NX"),
    command("SET", KEYS, VALUES, "XX", "GET"), command("SET", KEYS, VALUES, "PXAT", FAR),
    command("MSET", KEYS, VALUES, KEYS, VALUES), command("MSETNX", KEYS, VALUES, KEYS, VALUES),
    command("APPEND", KEYS, VALUES), command("INCR", KEYS), command("INCRBY", KEYS, NUMBERS),
    command("SETRANGE", KEYS, NUMBERS, VALUES), command("GETSET", KEYS, VALUES),
    command("GETDEL", KEYS), command("GETEX", KEYS, "PERSIST"), command("DEL", KEYS),
    command("UNLINK", KEYS, KEYS), command("HSET", KEYS, FIELDS, VALUES),
    command("HDEL", KEYS, FIELDS), command("HINCRBY", KEYS, FIELDS, NUMBERS),
    command("LPUSH", KEYS, VALUES), command("RPUSH", KEYS, VALUES, VALUES), command("LPOP", KEYS),
    command("RPOP", KEYS, NUMBERS), command("LMOVE", KEYS, KEYS, "LEFT", "RIGHT"),
    command("SADD", KEYS, "1", "5"), command("SREM", KEYS, NUMBERS),
    command("SMOVE", KEYS, KEYS, "1"), command("SUNIONSTORE", KEYS, KEYS, KEYS),
    command("ZADD", KEYS, "1", FIELDS), command("ZINCRBY", KEYS, NUMBERS, FIELDS),
    command("ZREM", KEYS, FIELDS), command("ZPOPMIN", KEYS), command("XADD", KEYS, "1-1", "f", "v"),
    command("XADD", KEYS, "2-1", "f", VALUES), command("XDEL", KEYS, "1-1"),
    command("RENAME", KEYS, KEYS), command("RENAMENX", KEYS, KEYS), command("COPY", KEYS, KEYS),
    command("COPY", KEYS, KEYS, "DB", DBS, "REPLACE"), command("MOVE", KEYS, DBS),
    command("PEXPIRE", KEYS, "0"), command("PEXPIREAT", KEYS, FAR), command("PERSIST", KEYS),
    command("EXPIRE", KEYS, "-1", "NX"), command("SORT", KEYS, "ALPHA", "STORE", KEYS),
    command("BLPOP", KEYS, "0.001"), command("EVAL", SCRIPT_SET, "1", KEYS, VALUES),
    command("EVAL", SCRIPT_HIDDEN, "0", KEYS), command("EVAL", SCRIPT_MOVE, "2", KEYS, KEYS),
    command("FLUSHDB"), command("SWAPDB", DBS, DBS), command("FLUSHALL"),
)  # fmt: skip
STATE = st.one_of(
    command("MULTI"), command("MULTI"), command("EXEC"), command("EXEC"), command("DISCARD"),
    command("WATCH", KEYS), command("UNWATCH"), command("SELECT", DBS), command("SELECT", "99"),
    command("CLIENT", "SETNAME", FIELDS), command("CLIENT", "GETNAME"), command("PING"),
    command("RESET"), command("NOSUCH", KEYS), command("GET"), command("SET", KEYS),
)  # fmt: skip
COMMANDS = st.one_of(READS, READS, READS, WRITES, WRITES, STATE)
