"""CONFIG: Redis' parameters as they are, Terrace's options beside them as terrace.…"""

import json

import pytest

from proxy.config.model import Config
from proxy.config.option_table import table
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import OK, decode


def pairs(reply: bytes) -> dict[str, str]:
    """Of either protocol: RESP3 answers with a map, RESP2 with a flat array."""
    value = decode(reply)
    if isinstance(value, list):
        value = dict(zip(value[::2], value[1::2], strict=True))
    return {name.decode(): text.decode() for name, text in value.items()}


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def proto(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_redis_parameters_are_answered_byte_for_byte(
    redis: RedisProcess, terrace: TerraceProcess, proto: int
) -> None:
    with Wire(redis.port, proto) as plain, Wire(terrace.port, proto) as wire:
        for command in (
            ("GET", "maxmemory"), ("GET", "slowlog-*"), ("get", "no-such-thing"), ("GET",),
            ("SET", "slowlog-max-len", 77), ("SET", "no-such-thing", 1), ("SET",), ("SET", "x"),
            ("SET", "slowlog-max-len", "many"), ("HELP",), ("RESETSTAT",), ("FROBNICATE",), (),
        ):  # fmt: skip
            assert wire.ask("CONFIG", *command) == plain.ask("CONFIG", *command), command


def test_own_options_have_the_form_of_the_protocol(terrace: TerraceProcess, proto: int) -> None:
    with Wire(terrace.port, proto) as wire:
        reply = wire.ask("CONFIG", "GET", "terrace.listen.port")
        assert reply[:3] == (b"*2\r" if proto == 2 else b"%1\r")
        assert pairs(reply) == {"terrace.listen.port": str(terrace.port)}


def test_every_option_is_there_as_it_is_written_in_a_file(terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire:
        found = pairs(wire.ask("CONFIG", "GET", "terrace.*"))
    assert list(found) == [f"terrace.{path}" for path in table(Config)]
    assert found["terrace.l1.max_bytes"] == "256MiB"
    assert found["terrace.l1.max_staleness"] == "50ms"
    assert found["terrace.l1.enabled"] == "true"
    assert json.loads(found["terrace.l3.view"]) == []


def test_a_pattern_may_match_both(terrace: TerraceProcess, proto: int) -> None:
    with Wire(terrace.port, proto) as wire:
        found = pairs(wire.ask("CONFIG", "GET", "*max-len", "TERRACE.l1.max_b*"))
        assert "slowlog-max-len" in found
        assert "terrace.l1.max_bytes" in found
        everything = pairs(wire.ask("CONFIG", "GET", "*"))
    assert "maxmemory" in everything
    assert "terrace.workers" in everything


def test_no_secret_is_told(redis: RedisProcess) -> None:
    terrace = TerraceProcess(
        redis.url.replace("://", "://default:hunter2@"),
        listen__password="s3same",
        l3__dsn="postgresql://u:hunter3@127.0.0.1:1/x",
    )
    try:
        terrace.wait_ready()
        with Wire(terrace.port) as wire:
            assert wire.ask("AUTH", "s3same") == b"+OK\r\n"
            reply = wire.ask("CONFIG", "GET", "terrace.*")
    finally:
        terrace.close()
    for secret in (b"hunter2", b"hunter3", b"s3same"):
        assert secret not in reply
    found = pairs(reply)
    assert found["terrace.listen.password"] == ""
    assert found["terrace.l2.url"] == f"redis://***@127.0.0.1:{redis.port}"


def test_no_secret_of_redis_is_told(own_redis: RedisProcess, proto: int) -> None:
    """The password that Redis expects is Terrace's business, not that of Terrace's clients."""
    with Wire(own_redis.port) as direct:
        direct.ask("CONFIG", "SET", "masterauth", "s3master")
        has_primary = b"primaryauth" in direct.ask("CONFIG", "GET", "primaryauth")
        direct.ask("CONFIG", "SET", "requirepass", "s3cret")
    url = own_redis.url.replace("://", "://default:s3cret@")
    with running_terrace(url) as terrace, Wire(terrace.port, proto) as wire:
        patterns = [("*",), ("requirepass",), ("Master*",)]
        replies = [wire.ask("CONFIG", "GET", *names) for names in patterns]
        replies += wire.ask_all(("MULTI",), ("CONFIG", "GET", "*"), ("EXEC",))
    assert not [reply for reply in replies if b"s3cret" in reply or b"s3master" in reply]
    assert pairs(replies[1]) == {"requirepass": ""}
    assert pairs(replies[2])["masterauth"] == ""
    assert not has_primary or pairs(replies[0])["primaryauth"] == ""
    assert int(pairs(replies[0])["maxclients"]) > 0


def test_own_options_cannot_be_set(redis: RedisProcess, terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire, Wire(redis.port) as plain:
        before = plain.ask("CONFIG", "GET", "maxmemory-samples")
        reply = wire.ask("CONFIG", "SET", "maxmemory-samples", 9, "terrace.l1.enabled", "no")
        assert reply.startswith(b"-ERR CONFIG SET failed (possibly related to argument 'terrace.l1")
        assert b"restart" in reply
        assert plain.ask("CONFIG", "GET", "maxmemory-samples") == before
        assert wire.ask("CONFIG", "SET", "terrace.nonsense", "1") == (
            b"-ERR Unknown option or number of arguments for CONFIG SET - 'terrace.nonsense'\r\n"
        )


def test_replies_keep_their_order(terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire:
        replies = wire.ask_all(
            ("SET", "k", "v"), ("CONFIG", "GET", "terrace.workers"), ("GET", "k"),
            ("CONFIG", "GET", "maxmemory"), ("PING",),
        )  # fmt: skip
    assert replies[0] == b"+OK\r\n"
    assert pairs(replies[1]) == {"terrace.workers": "1"}
    assert replies[2] == b"$1\r\nv\r\n"
    assert pairs(replies[3]) == {"maxmemory": "0"}
    assert replies[4] == b"+PONG\r\n"


def test_own_options_are_answered_while_redis_is_down(own_redis: RedisProcess) -> None:
    with running_terrace(own_redis.url) as terrace, Wire(terrace.port) as wire:
        own_redis.kill()
        assert pairs(wire.ask("CONFIG", "GET", "terrace.workers")) == {"terrace.workers": "1"}
        assert wire.ask("CONFIG", "GET", "*").startswith(b"-ERR terrace: L2 (redis) ")


def test_a_client_cannot_lock_terrace_out(own_redis: RedisProcess) -> None:
    """Its next connections would be refused: at the latest after the next failure."""
    with running_terrace(own_redis.url) as terrace, Wire(terrace.port) as wire:
        for line in (("requirepass", "x"), ("maxmemory", 0, "RequirePass", "x")):
            assert b"would be locked out" in wire.ask("CONFIG", "SET", *line)
            replies = wire.ask_all(("MULTI",), ("CONFIG", "SET", *line), ("EXEC",))
            assert replies[2].startswith(b"-EXECABORT")
        assert wire.ask("CONFIG", "SET", "requirepass", "") == OK, "as it is"
        with Wire(own_redis.port) as direct:
            direct.ask("ACL", "SETUSER", "proxy", "on", ">pw", "~*", "&*", "+@all")
    with (
        running_terrace(f"redis://proxy:pw@127.0.0.1:{own_redis.port}") as terrace,
        Wire(terrace.port) as wire,
    ):
        assert wire.ask("CONFIG", "SET", "requirepass", "x") == OK, "it has a user of its own"
        assert wire.ask_all(("MULTI",), ("SET", "k", 1), ("EXEC",))[2] == b"*1\r\n+OK\r\n"
