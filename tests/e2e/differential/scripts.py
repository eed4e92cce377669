"""Cases of scripts and functions."""
# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

from .corpus import Block

BLOCKS = (
    Block(
        "scripting",
        r"""
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
FUNCTION LOAD '#!lua name=l\nredis.register_function("f", function(k, a) return 1 end)'
FUNCTION DELETE nolib
FCALL nofunction 0
FCALL_RO nofunction 0
EVAL 'return 1' x
EVAL 'return 1' 1
EVAL 'return redis.call("lpush", "string", 1)' 0
EVAL 'return redis.call("nosuch")' 0
EVAL 'return redis.pcall("lpush", "string", 1)' 0
EVAL 'return {ok="fine"}' 0
EVAL 'return cjson.encode({1,2})' 0
EVAL 'error("thrown")' 0
EVAL 'redis.setresp(3) return redis.call("hgetall", "hash")' 0
EVAL_RO 'return 1' x
EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff x
SCRIPT '\xff\n'
SCRIPT FLUSH
SCRIPT FLUSH SYNC
SCRIPT FLUSH NONSENSE
SCRIPT KILL
SCRIPT HELP
SCRIPT LOAD 'return nonsense('
FUNCTION FLUSH
FUNCTION FLUSH ASYNC
FUNCTION FLUSH NONSENSE
FUNCTION DUMP
FUNCTION STATS
FUNCTION KILL
FUNCTION HELP
FUNCTION NOSUCH
FUNCTION LOAD 'no shebang'
FUNCTION LOAD '#!lua name=l\nnonsense('
FUNCTION LIST LIBRARYNAME * WITHCODE
FUNCTION LIST NOSUCH
FUNCTION RESTORE garbage
FUNCTION RESTORE "\xf5@F#!lua name=l\nredis.register_function('f', function(k, a) return 1 end)\n\x00\xad\x02QBH -L"
FCALL nofunction x
FCALL_RO nofunction x
""",
        mutated=False,
    ),
)
