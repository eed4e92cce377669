"""The fault matrix: every fault × every kind of command, what clients get and how soon.

`python -m tests.e2e.fault_matrix` (make faults) runs it whole and writes docs/FAULTS.md,
which is also what the tests expect: a reply of another class is a failure.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.e2e.faults import Fault, ProxyThread, postgres_faults, redis_faults
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres

PAGE = Path(__file__).parent.parent.parent / "docs" / "FAULTS.md"
SETTINGS = {"l2__deadline": "1s", "l2__connect_timeout": "500ms", "l3__deadline": "500ms"}
BOUNDS_S = (0.1, 0.5, 1.0, 2.0, 3.0)  # of the times in the table
RECOVERY_S = 1.0  # after the server is back, everything works again
SLACK_S = 3.0  # beyond a bound, for a busy machine, before a test fails
WAITS_S = 2.0  # a blocking command, or a subscriber, that hears nothing for longer waits
ROWS = 10_000  # more than are ever asked for: each is a miss
RUNS = 3  # of which the page is made
COMMANDS = (
    "read hit", "read miss", "mapped miss", "write", "transaction", "pub/sub", "blocking",
)  # fmt: skip

# Whether a command had left before the loss was noticed is a matter of a moment.
EITHER = {
    "write": {"error: not sent", "error: outcome unknown"},
    "transaction": {"EXECABORT", "error: not sent", "error: outcome unknown"},
    "blocking": {"error: L2 unavailable", "error: outcome unknown"},
}
WELL_CONNECTED = {"out of memory", "read-only replica", "slow"}  # no connection is lost

_UNKNOWN = "the outcome of this command is unknown"


@dataclass(frozen=True)
class Cell:
    """What a client got, and in which time."""

    answer: str  # "A or B" where it is a matter of chance
    took_s: float = 0.0

    @property
    def answers(self) -> set[str]:
        return set(self.answer.split(" or "))

    def right_for(self, kind: str, fault: str) -> set[str]:
        """The answers that are as right as these for a kind of command."""
        either = set() if fault in WELL_CONNECTED else EITHER.get(kind, set())
        return self.answers | (either if self.answers & either else set())

    def merged(self, other: Cell) -> Cell:
        answers = sorted(self.answers | other.answers)
        return Cell(" or ".join(answers), max(self.took_s, other.took_s))

    def __str__(self) -> str:
        return f"{self.answer}, {self.bound}" if self.took_s else self.answer

    @property
    def bound(self) -> str:
        bound = next((b for b in BOUNDS_S if self.took_s <= b), None)
        return f"< {bound:g} s" if bound else f"> {BOUNDS_S[-1]:g} s"


@dataclass
class Line:
    """One row of the table: a fault, right after it began or once Terrace knows."""

    fault: str
    moment: str
    cells: dict[str, Cell] = field(default_factory=dict)
    recovery_s: float | None = None

    def merged(self, other: Line) -> Line:
        """What either of two runs saw."""
        cells = {kind: cell.merged(other.cells[kind]) for kind, cell in self.cells.items()}
        recovery_s = self.recovery_s
        if recovery_s is not None and other.recovery_s is not None:
            recovery_s = max(recovery_s, other.recovery_s)
        return Line(self.fault, self.moment, cells, recovery_s)


def answer_class(reply: bytes, expected: bytes) -> str:
    if reply == expected:
        return "answered"
    text = reply.decode("utf-8", "replace").strip()
    if not text.startswith("-"):
        return "nil" if reply in (b"$-1\r\n", b"_\r\n", b"*-1\r\n") else f"wrong: {text[:30]}"
    if text.startswith("-EXECABORT"):
        return "EXECABORT"
    if not text.startswith("-ERR terrace: "):
        return f"Redis' {text.split()[0]}"
    if _UNKNOWN in text:
        return "error: outcome unknown"
    if "was not sent" in text:
        return "error: not sent"
    return f"error: {'L3' if 'L3 (postgres)' in text else 'L2'} unavailable"


class Bench:
    """One Terrace between both tiers, each behind a fault proxy; asks every kind of command."""

    def __init__(
        self, redis: RedisProcess, terrace: TerraceProcess, proxies: Sequence[ProxyThread]
    ) -> None:
        self.redis, self.terrace = redis, terrace
        self.proxies = proxies
        self._fresh = count(1)

    def prepare(self) -> None:
        """What the commands rely on: a hit in L1, keys in Redis that L1 does not have."""
        with Wire(self.redis.port) as plain:
            for number in range(200):
                plain.send("SET", f"cold:{number}", "c")
            plain.read(200)
        with Wire(self.terrace.port) as wire:
            assert wire.ask("SET", "hot", "h") == b"+OK\r\n"
            wait_until(lambda: self._hits(wire) > 0, "L1 serves")

    def _hits(self, wire: Wire) -> float:
        before = self.terrace.metrics()['cache_hits_total{level="l1"}']
        wire.ask("GET", "hot")
        wire.ask("GET", "hot")
        return self.terrace.metrics()['cache_hits_total{level="l1"}'] - before

    def run(self, fault: Fault) -> list[Line]:
        self.prepare()
        alone: dict[str, Cell] = {}
        for kind in COMMANDS if fault.by_chance else ():
            alone |= self._ask_alone(kind, fault)
        with contextlib.closing(Waiting(self.terrace.port)) as waiting:
            fault.cause()
            try:
                at_once = self._ask_all(waiting.cells)
                lines = [Line(fault.name, "at once", alone or at_once)]
                if fault.degrades:
                    self._wait_noticed()
                    lines.append(Line(fault.name, "then", self._ask_all(self._ask_waiting)))
            finally:
                fault.mend()
        lines[-1].recovery_s = self._wait_well(fault)
        return lines

    def _ask_alone(self, kind: str, fault: Fault) -> dict[str, Cell]:
        """The fault hits whoever comes first: that is this kind."""
        with contextlib.closing(Waiting(self.terrace.port)) as waiting:
            fault.cause()
            try:
                cells = self._ask_all(waiting.cells, {kind})
            finally:
                fault.mend()
        self._wait_well(fault)
        self.prepare()
        return cells

    def _wait_well(self, fault: Fault) -> float:
        took_s = wait_until(self._is_well, f"all is well after {fault.name}", 20)
        self.terrace.wait_ready()
        return took_s

    def _wait_noticed(self) -> None:
        def noticed() -> bool:
            state = self.terrace.readiness()[1]
            return state["l2"] != "ready" or state["l3"] != "ready"

        wait_until(noticed, "Terrace noticed")

    def _is_well(self) -> bool:
        """Every kind of command works again."""
        with Wire(self.terrace.port) as wire:
            return (
                self._mapped(wire).answer == "answered"
                and self._write(wire).answer == "answered"
                and self._transaction(wire).answer == "answered"
            )

    # Every kind of command, all at the same time

    def _ask_all(
        self, waiting: Callable[[set[str]], dict[str, Cell]], of: Collection[str] = COMMANDS
    ) -> dict[str, Cell]:
        kinds: dict[str, Callable[[Wire], Cell]] = {
            "read hit": lambda wire: self._timed(wire, b"$1\r\nh\r\n", ("GET", "hot")),
            "read miss": lambda wire: self._timed(
                wire, b"$1\r\nc\r\n", ("GET", f"cold:{next(self._fresh) % 200}")
            ),
            "mapped miss": self._mapped,
            "write": self._write,
        }
        cells: dict[str, Cell] = {}

        def ask(kind: str) -> None:
            with Wire(self.terrace.port, timeout_s=15) as wire:
                cells[kind] = kinds[kind](wire)

        threads = [threading.Thread(target=ask, args=(kind,)) for kind in kinds if kind in of]
        if others := set(of) - kinds.keys():
            threads.append(threading.Thread(target=lambda: cells.update(waiting(others))))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {kind: cells[kind] for kind in COMMANDS if kind in of}

    def _timed(self, wire: Wire, expected: bytes, *commands: tuple[str, ...]) -> Cell:
        began = time.monotonic()
        reply = wire.ask_all(*commands)[-1]
        return Cell(answer_class(reply, expected), time.monotonic() - began)

    def _mapped(self, wire: Wire) -> Cell:
        number = next(self._fresh) % ROWS
        text = b"row %d" % number
        return self._timed(wire, b"$%d\r\n%b\r\n" % (len(text), text), ("GET", f"row:{number}"))

    def _write(self, wire: Wire) -> Cell:
        return self._timed(wire, b"+OK\r\n", ("SET", f"written:{next(self._fresh)}", "w"))

    def _transaction(self, wire: Wire) -> Cell:
        key = f"written:{next(self._fresh)}"
        return self._timed(wire, b"*1\r\n+OK\r\n", ("MULTI",), ("SET", key, "w"), ("EXEC",))

    def _ask_waiting(self, of: set[str]) -> dict[str, Cell]:
        """A transaction, SUBSCRIBE and BLPOP, asked while the fault lasts."""
        cells = {}
        if "transaction" in of:
            with Wire(self.terrace.port, timeout_s=15) as wire:
                cells["transaction"] = self._transaction(wire)
        asked = {"pub/sub": ("SUBSCRIBE", "news"), "blocking": ("BLPOP", "q", 0)}
        for kind, commands in asked.items():
            if kind not in of:
                continue
            with Wire(self.terrace.port, timeout_s=WAITS_S) as wire:
                began = time.monotonic()
                try:
                    reply = wire.ask(*commands)
                except TimeoutError:
                    cells[kind] = Cell("waits")
                else:
                    confirmed = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
                    cells[kind] = Cell(answer_class(reply, confirmed), time.monotonic() - began)
        return cells


class Waiting:
    """A transaction, a subscriber and a blocked client from before the fault."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.transaction = Wire(port, timeout_s=15)
        self.transaction.ask_all(("MULTI",), ("SET", "written", "w"))
        self.subscriber = Wire(port, timeout_s=WAITS_S)
        self.subscriber.ask("SUBSCRIBE", "news")
        self.blocked = Wire(port, timeout_s=WAITS_S)
        self.blocked.send("BLPOP", "q", 0)
        with Wire(port) as wire:
            wait_until(
                lambda: b"blocked_clients:1" in wire.ask("INFO", "clients"), "one is blocked"
            )

    def close(self) -> None:
        self.transaction.close()
        self.subscriber.close()
        self.blocked.close()

    def cells(self, of: set[str]) -> dict[str, Cell]:
        """What EXEC answers, and what the others hear in WAITS_S of a message and an element."""
        cells: dict[str, Cell] = {}

        def listen(kind: str, wire: Wire) -> None:
            began = time.monotonic()
            try:
                frame = wire.read()[0]
            except TimeoutError:
                cells[kind] = Cell("waits")
            except ConnectionError:
                cells[kind] = Cell("closed", time.monotonic() - began)
            else:
                got = b"message" in frame or b"element" in frame
                answer = "answered" if got else answer_class(frame, b"")
                cells[kind] = Cell(answer, time.monotonic() - began)

        def finish() -> None:
            began = time.monotonic()
            reply = self.transaction.ask("EXEC")
            answer = answer_class(reply, b"*1\r\n+OK\r\n")
            cells["transaction"] = Cell(answer, time.monotonic() - began)

        waiters = {
            "pub/sub": (self.subscriber, ("PUBLISH", "news", "message")),
            "blocking": (self.blocked, ("RPUSH", "q", "element")),
        }
        threads = [
            threading.Thread(target=listen, args=(kind, waiters[kind][0]))
            for kind in waiters
            if kind in of
        ]
        if "transaction" in of:
            threads.append(threading.Thread(target=finish))
        for thread in threads:
            thread.start()
        for kind, (_, command) in waiters.items():
            if kind in of:
                with contextlib.suppress(OSError), Wire(self._port, timeout_s=WAITS_S) as wire:
                    wire.ask(*command)
        for thread in threads:
            thread.join()
        return cells


@contextlib.contextmanager
def running_bench() -> Iterator[tuple[Bench, list[Fault], list[Fault]]]:
    """The bench, the faults of its Redis and those of its Postgres."""
    postgres = Postgres()
    try:
        postgres.start()
        database = postgres.create_database()
        _fill(database)
        database.close()
        socket_path = next(postgres.directory.glob(".s.PGSQL.*[0-9]"))
        with (
            running_redis() as redis,
            ProxyThread("127.0.0.1", redis.port) as to_redis,
            ProxyThread(str(socket_path)) as to_postgres,
        ):
            name = database.dsn.rpartition("=")[2]
            dsn = (
                f"host=127.0.0.1 port={to_postgres.port} user=terrace dbname={name} "
                "sslmode=disable gssencmode=disable"
            )
            view = {"keys": "row:{id}", "view": "rows_by_id", "reply": "string:text"}
            with running_terrace(
                f"redis://127.0.0.1:{to_redis.port}", l3__dsn=dsn, l3__view=json.dumps([view]),
                **SETTINGS,
            ) as terrace:  # fmt: skip
                wait_until(lambda: terrace.readiness()[1]["l3"] == "ready", "Postgres is there")
                bench = Bench(redis, terrace, (to_redis, to_postgres))
                yield bench, redis_faults(redis, to_redis), postgres_faults(postgres, to_postgres)
    finally:
        postgres.destroy()


def _fill(database: Database) -> None:
    database.run(
        f"""CREATE MATERIALIZED VIEW rows_by_id AS
            SELECT n::text AS id, 'row ' || n AS text FROM generate_series(0, {ROWS}) n""",
        "CREATE UNIQUE INDEX ON rows_by_id (id)",
    )


# The page


def page(tables: dict[str, list[Line]]) -> str:
    lines = [
        "# Faults",
        "",
        "<!-- Generated by `make faults`; the tests compare every reply with it. -->",
        "",
        "What clients get while a tier fails: when it has just happened (at once), and when "
        "Terrace knows (then);",
        "and how soon every kind of command works again after the server is back. With "
        "`l2.deadline` = 1 s,",
        "`l2.connect_timeout` = 500 ms and `l3.deadline` = 500 ms: the longer times go with these.",
        "",
        "- *answered*: the right reply. *L2 unavailable*, *not sent*, *outcome unknown*: errors of "
        "Terrace that say so.",
        "- *waits*: nothing within 2 s, as the client asked for; it goes on when the server does.",
        "- transaction: EXEC of one from before, and then a whole new one; pub/sub: a subscriber "
        "from before,",
        "  and then a new SUBSCRIBE; blocking: BLPOP likewise.",
        "- slow: 20 ms more for every piece in each direction.",
    ]
    for tier, rows in tables.items():
        lines += ["", f"## {tier}", "", "| | " + " | ".join(COMMANDS) + " | recovery |"]
        lines.append("|---" * (len(COMMANDS) + 2) + "|")
        for line in rows:
            recovery = Cell("", line.recovery_s).bound if line.recovery_s is not None else ""
            cells = [str(line.cells[kind]) for kind in COMMANDS]
            lines.append(f"| {line.fault}, {line.moment} | {' | '.join(cells)} | {recovery} |")
    return "\n".join(lines) + "\n"


def expected() -> dict[tuple[str, str, str], dict[str, Cell]]:
    """(tier, fault, moment) -> the cells of the page; `took_s` is the bound."""
    found = {}
    tier = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            tier = line[3:]
        elif line.startswith("| ") and not line.startswith("| |"):
            head, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            fault, _, moment = head.rpartition(", ")
            found[tier, fault, moment] = {
                kind: _parsed(cell) for kind, cell in zip(COMMANDS, cells, strict=False)
            }
    return found


def _parsed(text: str) -> Cell:
    match = re.fullmatch(r"(.*), < ([\d.]+) s", text)
    return Cell(match[1], float(match[2])) if match else Cell(text)


def main() -> int:
    tables: dict[str, list[Line]] = {"Redis": [], "Postgres": []}
    for number in range(1, RUNS + 1):
        with running_bench() as (bench, of_redis, of_postgres):
            for tier, faults in (("Redis", of_redis), ("Postgres", of_postgres)):
                seen = [line for fault in faults for line in bench.run(fault)]
                known = tables[tier] or seen
                tables[tier] = [a.merged(b) for a, b in zip(known, seen, strict=True)]
                print(f"run {number} of {RUNS}, {tier}: done", file=sys.stderr)
    PAGE.write_text(page(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
