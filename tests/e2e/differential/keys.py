"""Cases of the keyspace: names, lifetimes, types, cursors."""

from __future__ import annotations

from .corpus import Block

BLOCKS = (
    Block(
        "keyspace",
        r"""
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
SCAN 0 TYPE string MATCH volatile COUNT 1000
EXPIRE string x
EXPIRE string 9223372036854775807
EXPIRE string 100 NX XX
EXPIRE string 100 GT LT
EXPIRE string 100 BOGUS
EXPIREAT string x
PEXPIRE string x
PEXPIREAT string x
EXPIREAT string 1
COPY string string
COPY string copied DB 99
COPY absent copied
MOVE string x
RESTORE fresh 0 '\x00\x01v\x09\x00A\xfa\x9f~M\xbe\xe9\x7f'
RESTORE string 0 '\x00\x01v\x09\x00A\xfa\x9f~M\xbe\xe9\x7f'
RESTORE string 1000 '\x00\x01v\x09\x00A\xfa\x9f~M\xbe\xe9\x7f' REPLACE
RESTORE-ASKING fresh 0 '\x00\x01v\x09\x00A\xfa\x9f~M\xbe\xe9\x7f'
RESTORE string 0 garbage
RESTORE fresh -1 garbage
RESTORE fresh 0 garbage FREQ x
RESTORE-ASKING fresh 0 garbage
OBJECT IDLETIME string
OBJECT IDLETIME absent
OBJECT HELP
OBJECT ENCODING absent
OBJECT REFCOUNT absent
MEMORY USAGE absent
MEMORY USAGE string SAMPLES -1
RENAME string string
RENAMENX absent number
""",
    ),
    Block(
        "cursors",  # not mutated: where a page ends depends on how far a resize has come
        r"""
SCAN x
SCAN 0 COUNT 0
SCAN 0 COUNT x
SCAN 01 COUNT 1000 MATCH string
SCAN -1 MATCH nothing COUNT 1000
SCAN ' 0' MATCH string COUNT 1000
SCAN 18446744073709551616
SCAN 0 COUNT 01 MATCH nothing
SCAN 0 COUNT -1
SCAN 0 COUNT 9223372036854775808
SCAN 0 COUNT 1000 COUNT
SCAN 0 '\xff'
SCAN 0 MATCH
SCAN 0 NOSUCH x
SCAN 0 TYPE nosuch COUNT 1000
RANDOMKEY
SELECT 0
""",
        mutated=False,
    ),
)
