"""What clients log in with stays between them and Terrace: Redis never sees it."""

from __future__ import annotations

import contextlib

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire

SECRET = "s3same-open"


@pytest.mark.parametrize("proto", [2, 3], ids=["RESP2", "RESP3"])
def test_logins_are_in_no_log_of_redis_and_none_of_terrace(
    own_redis: RedisProcess, proto: int
) -> None:
    """Rule 23: whether they succeed or fail, also inside MULTI and through scripts."""
    wrong = SECRET + "-wrong"
    terrace = TerraceProcess(own_redis.url, listen__password=SECRET)
    with contextlib.ExitStack() as stack:
        stack.callback(terrace.close)
        terrace.wait_ready()
        direct, monitor = (stack.enter_context(Wire(own_redis.port)) for _ in range(2))
        wire = stack.enter_context(Wire(terrace.port))
        direct.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
        assert monitor.ask("MONITOR") == b"+OK\r\n"
        assert wire.ask("AUTH", wrong).startswith(b"-WRONGPASS")
        assert wire.ask("HELLO", 3, "AUTH", "default", wrong).startswith(b"-WRONGPASS")
        assert wire.ask("AUTH", SECRET) == b"+OK\r\n"
        assert wire.ask("HELLO", proto, "AUTH", "default", SECRET)[:1] in b"*%"
        wire.ask_all(("MULTI",), ("AUTH", SECRET), ("EXEC",))
        wire.ask("SET", "last", "1")
        seen = b""
        while b'"last"' not in seen:
            seen += monitor.read()[0]
        told = [seen, wire.ask("SLOWLOG", "GET", 100), wire.ask("ACL", "LOG"), wire.ask("INFO"),
                wire.ask("CLIENT", "LIST"), wire.ask("CONFIG", "GET", "*"),
                direct.ask("SLOWLOG", "GET", 100)]  # fmt: skip
        told.append(terrace.get("/metrics")[1].encode())
        terrace.signal()
        assert terrace.wait_exit() == 0
        told.append(terrace.log().encode())
    for text in told:
        assert SECRET.encode() not in text
