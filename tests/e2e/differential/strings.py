"""Cases of strings, bitmaps and HyperLogLogs."""

from __future__ import annotations

from .corpus import Block

BLOCKS = (
    Block(
        "string",
        r"""
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
GETRANGE string 1 0
SET string v EX
SET string v EXAT 33177117420
SET string v PXAT 33177117420000 GET
SET string v EX 9223372036854775807
SET list v GET
SETNX list v
SETEX string abc v
SETEX list 100 v
SETRANGE fresh 536870912 x
GETEX string PXAT 33177117420000
GETEX string EX 0
GETEX string EX
INCRBYFLOAT float nan
INCRBYFLOAT float 1e400
DECRBY number -9223372036854775808
SETEX number -9223372036854775808 v
LCS string bits IDX MINMATCHLEN 1 WITHMATCHLEN
LCS string bits LEN IDX
""",
    ),
    Block(
        "bitmap",
        r"""
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
BITOP AND dest list
BITFIELD bits INCRBY u2 0 1 OVERFLOW FAIL GET u8 0
BITFIELD bits GET u64 0
BITFIELD_RO bits GET u8 0
BITFIELD_RO bits SET u8 0 1
GETBIT bits 4294967296
BITCOUNT bits 0
BITPOS bits 0 2 -1 BIT
BITPOS bits 1 x
BITOP XOR dest bits
BITOP NOT dest bits
BITFIELD bits SET i8 #1 -1
BITFIELD bits OVERFLOW NEVER
BITFIELD bits INCRBY i65 0 1
""",
    ),
    Block(
        "hyperloglog",
        r"""
PFADD hll d
PFADD hll
PFCOUNT hll
PFCOUNT hll hll2
PFMERGE dest hll hll2
PFADD string x
PFMERGE dest string
PFCOUNT string
PFDEBUG ENCODING hll
PFDEBUG NOSUCH hll
PFDEBUG ENCODING absent
""",
    ),
)
