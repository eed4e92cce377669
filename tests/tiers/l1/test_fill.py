"""Which reply of a read L1 keeps, and until when: each decision of `Fill` is a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import pytest

from tiers import L1Memory, L1Options, NamespaceOptions
from tiers.l1.fill import Refusal
from tiers.l1.namespaces import Namespaces
from tiers.proxy_door import Fill, with_pttl
from tiers.wire.resp import NULL3, bulk, error, integer

NOW = 1000.0
SENT = 999.0  # a second before the reply: deadlines count from here
REPLY = bulk("v")
MAX_AGE_S = 60.0
REFUSED = error("ERR refused")


def space(match: str, **more: str) -> NamespaceOptions:
    return NamespaceOptions.model_validate({"match": match, **more})


def memory(*, fallback_age_s: float = inf) -> L1Memory:
    options = L1Options(max_age_s=MAX_AGE_S, max_value_bytes=1024, max_staleness_s=10)
    spaces = Namespaces(
        [space("short:*", max_age="5s"), space("long:*", max_age="2h"),
         space("none:*", l1="off"), space("tight:*", max_staleness="2s")],
        options,
    )  # fmt: skip
    l1 = L1Memory(options, lambda: NOW, spaces)
    l1.coherence.on_connect(NOW, fallback_age_s)
    return l1


def change(l1: L1Memory, key: bytes) -> None:
    l1.coherence.on_push([key])


def flush(l1: L1Memory, key: bytes) -> None:
    l1.coherence.on_push(None)


def own_write(l1: L1Memory, key: bytes) -> None:
    l1.coherence.begin_write([key])


def own_write_done(l1: L1Memory, key: bytes) -> None:
    l1.coherence.begin_write([key])
    l1.coherence.end_write([key])


def lose(l1: L1Memory, key: bytes) -> None:
    l1.coherence.on_loss()


def reconnect(l1: L1Memory, key: bytes) -> None:
    l1.coherence.on_loss()
    l1.coherence.on_connect(NOW)


def change_another(l1: L1Memory, key: bytes) -> None:
    l1.coherence.on_push([b"another key"])


@dataclass(frozen=True)
class Case:
    about: str
    kept_s: float | None = None  # after the sending; None: refused
    why: Refusal | None = None
    key: bytes = b"k"
    variant: bytes = b""
    pttl: bytes = field(default_factory=lambda: integer(-1))
    reply: bytes = REPLY
    before: Callable[[L1Memory, bytes], None] | None = None  # the read begins
    between: Callable[[L1Memory, bytes], None] | None = None  # the two replies
    max_age_s: float | None = None
    fields_end_in: tuple[int, ...] = ()
    fallback_age_s: float = inf


CASES = (
    Case("no expiry: as old as the options allow", kept_s=MAX_AGE_S),
    Case("no such key: its absence is kept", pttl=integer(-2), reply=NULL3, kept_s=MAX_AGE_S),
    Case("a key that ends before", pttl=integer(7_000), kept_s=7),
    Case("a key that ends after", pttl=integer(3_600_000), kept_s=MAX_AGE_S),
    Case("too short: it has ended by now", pttl=integer(400), kept_s=0.4),
    Case("it ends at once", pttl=integer(0), kept_s=0),
    Case("PTTL is refused", pttl=REFUSED, why=Refusal.NO_TTL),
    Case("the read is refused", reply=REFUSED, why=Refusal.ERROR),
    Case("the read is refused at length", reply=b"!5\r\nERR x\r\n", why=Refusal.ERROR),
    Case("as large as is allowed", reply=bulk("v" * 1015), kept_s=MAX_AGE_S),
    Case("too large", reply=bulk("v" * 1016), why=Refusal.TOO_LARGE),
    Case("a variant of its own", variant=b"2:0:STRLEN k", kept_s=MAX_AGE_S),
    # The token
    Case("a change between the replies", between=change, why=Refusal.OVERTAKEN),
    Case("a change of another key", between=change_another, kept_s=MAX_AGE_S),
    Case("a flush between the replies", between=flush, why=Refusal.OVERTAKEN),
    Case("an own write begins", between=own_write, why=Refusal.OVERTAKEN),
    Case("an own write comes and goes", between=own_write_done, why=Refusal.OVERTAKEN),
    Case("an own write was under way", before=own_write, why=Refusal.NOT_BEGUN),
    Case("an own write had ended", before=own_write_done, kept_s=MAX_AGE_S),
    # The epoch
    Case("tracking is lost", between=lose, why=Refusal.OVERTAKEN),
    Case("tracking was lost and is back", between=reconnect, why=Refusal.OVERTAKEN),
    Case("no tracking when it began", before=lose, why=Refusal.NOT_BEGUN),
    # Namespaces
    Case("a namespace allows less", key=b"short:1", kept_s=5),
    Case("a namespace allows more", key=b"long:1", kept_s=7200),
    Case("the key ends before its namespace", key=b"long:1", pttl=integer(3_000), kept_s=3),
    Case("a namespace without L1", key=b"none:1", why=Refusal.NOT_CACHED),
    Case("a tighter bound: stored behind its gate", key=b"tight:1", kept_s=MAX_AGE_S),
    # Other deadlines
    Case("the caller allows less", max_age_s=3, kept_s=3),
    Case("the caller allows less than a namespace", max_age_s=3, key=b"long:1", kept_s=3),
    Case("the caller allows more", max_age_s=9_999, kept_s=MAX_AGE_S),
    Case("a hash field ends before its key", pttl=integer(9_000), fields_end_in=(8_000, 4_000),
         kept_s=4),
    Case("a hash field ends after its key", pttl=integer(9_000), fields_end_in=(12_000,),
         kept_s=9),
    Case("a hash field ends, its key does not", fields_end_in=(4_000, 8_000), kept_s=4),
    # Without tracking, where the age is the bound
    Case("the age is bounded", fallback_age_s=2, kept_s=2),
    Case("the age is bounded for a namespace", fallback_age_s=2, key=b"long:1", kept_s=2),
    Case("the age is the bound on staleness", fallback_age_s=30, key=b"tight:1", kept_s=2),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.about)
def test_decisions(case: Case) -> None:
    l1, key = memory(fallback_age_s=case.fallback_age_s), case.key
    if case.before is not None:
        case.before(l1, key)
    fill = Fill(l1, key, case.variant)
    assert not fill.feed(case.pttl, SENT)
    if case.between is not None:
        case.between(l1, key)
    assert fill.feed(case.reply, SENT)
    fill.max_age_s = case.max_age_s
    for left_ms in case.fields_end_in:
        fill.end_in(left_ms)
    assert fill.commit() is case.why
    found = l1.namespaces.find(key)
    entry = l1.arena.peek(key, case.variant if found is None else found.variant(case.variant))
    if case.kept_s is None:
        assert entry is None
    else:
        assert entry is not None
        assert entry[:2] == (case.reply, pytest.approx(SENT + case.kept_s))
        served = l1.read(key, case.variant, NOW)
        assert served == (case.reply if SENT + case.kept_s > NOW else None)


def test_without_an_l1_nothing_is_kept_and_pttl_is_heard() -> None:
    fill = Fill(None, b"k", b"")
    assert fill.ttl_unknown
    assert not fill.feed(integer(-2), SENT)
    assert fill.is_absent
    assert not fill.ttl_unknown
    assert fill.feed(NULL3, SENT)
    assert fill.commit() is Refusal.NOT_BEGUN


def test_a_reply_without_pttl_is_not_kept() -> None:
    fill = Fill(memory(), b"k", b"")
    fill.reply, fill.sent_at = REPLY, SENT
    assert fill.commit() is Refusal.NO_TTL


def test_a_fill_that_the_compiled_lane_began_goes_on() -> None:
    l1 = memory()
    token, epoch = l1.coherence.begin_fill(b"k"), l1.arena.epoch
    fill = Fill.begun(l1, b"k", b"", token, epoch)
    fill.feed(integer(-1), SENT)
    fill.feed(REPLY, SENT)
    assert fill.commit() is None
    late = Fill.begun(l1, b"k", b"", token, epoch)
    change(l1, b"k")
    late.feed(integer(-1), SENT)
    late.feed(REPLY, SENT)
    assert late.commit() is Refusal.OVERTAKEN


def test_what_is_sent() -> None:
    assert with_pttl(b"key") == b"*2\r\n$4\r\nPTTL\r\n$3\r\nkey\r\n"
    assert with_pttl(b"key", b"GET") == b"*2\r\n$4\r\nPTTL\r\n$3\r\nkey\r\nGET"
