"""redis-cli in every mode: on Terrace's port it prints what it prints on Redis' own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire, encode

TOOL_S = 20.0


@pytest.fixture(scope="module")
def binary() -> str:
    found = shutil.which("redis-cli")
    if found is None:
        pytest.skip("no redis-cli on the PATH")
    return found


class Cli:
    """The same call on both ports."""

    def __init__(self, binary: str, redis: RedisProcess, terrace: TerraceProcess) -> None:
        self._direct = [binary, "-p", str(redis.port)]
        self.through = [binary, "-p", str(terrace.port)]

    def run(self, *arguments: str, given: bytes = b"") -> str:
        return _run([*self.through, *arguments], given)

    def run_both(self, *arguments: str, given: bytes = b"") -> str:
        """What it prints, which must be the same for both."""
        printed = self.run(*arguments, given=given)
        assert printed == _run([*self._direct, *arguments], given)
        return printed

    def supports(self, option: str) -> bool:
        done = subprocess.run(
            [self.through[0], "--help"], capture_output=True, timeout=TOOL_S, check=False
        )
        return option.encode() in done.stdout + done.stderr

    @contextlib.contextmanager
    def watching(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """One that would print for ever: it is ended, and its lines are bounded by the test."""
        process = subprocess.Popen(
            [*self.through, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = threading.Timer(TOOL_S, process.kill)  # so that no read waits for ever
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()
            process.wait(TOOL_S)
            assert process.stdout is not None
            process.stdout.close()


def _run(command: list[str], given: bytes) -> str:
    done = subprocess.run(command, input=given, capture_output=True, timeout=TOOL_S, check=False)
    assert done.returncode == 0, done
    return done.stdout.decode()


def line_of(process: subprocess.Popen[bytes], having: bytes) -> bytes:
    """The next line with these bytes; the read ends with the process at the latest."""
    assert process.stdout is not None
    for line in process.stdout:
        if having in line:
            return line
    raise AssertionError(f"it ended without {having!r}")


@pytest.fixture
def cli(binary: str, redis: RedisProcess, terrace: TerraceProcess) -> Cli:
    with Wire(terrace.port) as wire:
        wire.ask_all(("FLUSHALL",), ("CONFIG", "SET", "maxmemory-policy", "noeviction"))
        wire.ask("MSET", *[text for n in range(30) for text in (f"k{n}", "v" * n)])
        wire.ask_all(
            ("HSET", "hash", "a", 1, "b", "zwei ä"),
            ("RPUSH", "list", *"abc"),
            ("SADD", "set", "m"),
            ("ZADD", "zset", "1.5", "m"),
            ("XADD", "stream", "1-1", "f", "v"),
            ("GET", "k3"),
            ("GET", "k3"),
        )
    return Cli(binary, redis, terrace)


@pytest.mark.parametrize(
    "flags", [(), ("-3",), ("--csv",), ("--raw",), ("--no-raw", "-3")], ids=str
)
def test_commands_print_the_same(cli: Cli, flags: tuple[str, ...]) -> None:
    for line in (
        "GET k3", "GET absent", "HGETALL hash", "LRANGE list 0 -1", "SMEMBERS set", "LPUSH k3 x",
        "ZRANGE zset 0 -1 WITHSCORES", "XRANGE stream - +", "TYPE hash", "OBJECT ENCODING hash",
        "NOSUCH a b", "GET", "DEBUG", "TTL k3", "EXISTS k1 k2", "COMMAND COUNT x",
    ):  # fmt: skip
        cli.run_both(*flags, *line.split())


def test_json(cli: Cli) -> None:
    if not cli.supports("--json"):
        pytest.skip("this redis-cli has no --json")
    assert '"a":"1"' in cli.run_both("--json", "HGETALL", "hash")
    cli.run_both("--quoted-json", "HGETALL", "hash")


def test_repeated_and_from_its_input(cli: Cli) -> None:
    assert cli.run("-r", "3", "-i", "0.01", "INCR", "counter").split() == ["1", "2", "3"]
    assert cli.run_both(given=b"SET a 'b c'\nGET a\nSELECT 3\nGET a\n\n").splitlines()[1] == "b c"
    assert cli.run_both("-n", "3", "GET", "k3") == "\n"
    assert cli.run_both("-x", "SET", "from-input", given=b"text") == "OK\n"
    assert cli.run_both("GET", "from-input") == "text\n"
    assert "QUEUED" in cli.run_both(given=b"MULTI\nGET k3\nEXEC\n")


def test_eval_of_a_file(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script.lua"
    script.write_text("return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}")
    assert cli.run_both("--eval", str(script), "k3", ",", "x").split() == ["k3", "x", "vvv"]


def test_scan(cli: Cli) -> None:
    assert len(set(cli.run("--scan").splitlines())) == 35
    for flags in ([], ["-3"]):
        found = cli.run(*flags, "--scan", "--pattern", "k*").splitlines()
        assert set(found) == {f"k{n}" for n in range(30)}


@pytest.mark.parametrize("mode", ["--bigkeys", "--memkeys"])
@pytest.mark.parametrize("proto", ["-2", "-3"])
def test_sampling_keys(cli: Cli, mode: str, proto: str) -> None:
    flags = [proto] if cli.supports("  -2 ") or proto == "-3" else []
    printed = cli.run(*flags, mode)
    assert "Sampled 35 keys" in printed
    assert '"k29"' in printed or mode == "--memkeys"


def test_hotkeys(cli: Cli) -> None:
    refused = subprocess.run(
        [*cli.through, "--hotkeys"], capture_output=True, timeout=TOOL_S, check=False
    )
    assert b"An LFU maxmemory policy is not selected" in refused.stdout + refused.stderr
    cli.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    for _ in range(20):
        cli.run("LRANGE", "list", "0", "-1")
    assert "hot key found with counter" in cli.run("--hotkeys")
    cli.run("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_pipe(cli: Cli) -> None:
    commands = b"".join(encode("SET", f"piped:{n}", n) for n in range(2000))
    assert "errors: 0, replies: 2000" in cli.run("--pipe", given=commands)
    assert cli.run("GET", "piped:1999") == "1999\n"
    printed = subprocess.run(
        [*cli.through, "--pipe"], input=encode("LPUSH", "k3", "x") + encode("SET", "a", "b"),
        capture_output=True, timeout=TOOL_S, check=False,
    )  # fmt: skip
    assert b"errors: 1, replies: 2" in printed.stdout


def test_latency(cli: Cli) -> None:
    """Without a terminal it measures for a second and ends."""
    least, most, mean, samples = cli.run("--latency", "--raw").split()
    assert int(least) <= float(mean) <= int(most)
    assert int(samples) > 5


def test_latency_history(cli: Cli) -> None:
    with cli.watching("--latency-history", "-i", "1", "--raw") as process:
        samples = 0
        while samples < 5:  # a line says what was measured until then
            least, most, _, count = line_of(process, b" ").split()
            assert int(least) <= int(most)
            assert int(count) > samples
            samples = int(count)


def test_stat(cli: Cli) -> None:
    with cli.watching("--stat", "-i", "0.1") as process:
        assert b"keys" in line_of(process, b"clients")
        first, second = line_of(process, b" (+"), line_of(process, b" (+")
        assert first.split()[0] == second.split()[0] == b"35"


@pytest.mark.parametrize("flags", [(), ("-3",)], ids=str)
def test_monitor(cli: Cli, terrace: TerraceProcess, flags: tuple[str, ...]) -> None:
    with cli.watching(*flags, "MONITOR") as process, Wire(terrace.port) as wire:
        assert line_of(process, b"") == b"OK\n"
        wire.ask("SET", "monitored", "1")
        assert b'"SET" "monitored" "1"' in line_of(process, b"monitored")


@pytest.mark.parametrize("flags", [(), ("-3",)], ids=str)
def test_subscribe(cli: Cli, terrace: TerraceProcess, flags: tuple[str, ...]) -> None:
    with cli.watching(*flags, "SUBSCRIBE", "news") as process, Wire(terrace.port) as wire:
        wait_until(
            lambda: wire.ask("PUBLISH", "news", "read all about it") == b":1\r\n", "it listens"
        )
        assert b"read all about it" in line_of(process, b"read all")


def test_what_would_replicate_is_refused_in_words(cli: Cli, tmp_path: Path) -> None:
    for mode in (["--rdb", str(tmp_path / "dump.rdb")], ["--replica"]):
        done = subprocess.run(
            [*cli.through, *mode], capture_output=True, timeout=TOOL_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode != 0
        assert b"the proxy does not forward replication streams" in done.stdout + done.stderr


def test_keys_dbsize_and_randomkey(cli: Cli) -> None:
    assert sorted(cli.run("KEYS", "*").split()) == sorted(cli.run("--scan").split())
    assert cli.run_both("DBSIZE") == "35\n"
    assert cli.run("RANDOMKEY").strip() in cli.run("KEYS", "*").split()
    assert cli.run_both("-n", "9", "RANDOMKEY") == "\n"
