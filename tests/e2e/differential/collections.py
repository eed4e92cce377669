"""Cases of lists, hashes and sets."""

from __future__ import annotations

from .corpus import Block

BLOCKS = (
    Block(
        "list",
        r"""
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
LPOP list -1
RPOP absent
LPUSHX list z
LINSERT absent BEFORE b x
LTRIM list x 2
LPOS list b MAXLEN -1
LPOS list b COUNT -1
LMPOP 1 list MIDDLE
LMPOP 1 list LEFT COUNT 0
SORT list LIMIT 0
SORT list BY w_* GET # GET o_*
SORT_RO ints STORE dest
""",
    ),
    Block(
        "hash",
        r"""
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
HMGET absent f
HGET hash
HINCRBY hash n 9223372036854775807
HINCRBYFLOAT hash f1 1
HINCRBYFLOAT hash n nan
HSCAN hash x
HSCAN hash 0 COUNT 0
HSCAN hash 0 NOSUCH 1
HRANDFIELD hash x
HRANDFIELD hash 1 WITHNOTHING
""",
    ),
    Block(
        "set",
        r"""
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
SDIFFSTORE dest string
SINTERSTORE dest string
SUNIONSTORE dest string
SINTERSTORE dest set set2
SUNIONSTORE dest set set2
SSCAN ints 0
SSCAN ints x
SMOVE set set2 z
SMOVE set list a
SPOP set -1
SPOP single x
SRANDMEMBER single x
SRANDMEMBER single -9223372036854775808
SINTERCARD 1 set LIMIT -1
SINTERCARD 3 set set2
SINTERCARD 2 set set2 LIMIT 1
SSCAN ints 0 COUNT x
""",
    ),
)
