"""Plain words in the code and in the hand-written pages; and the pages' lines, links and index."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.commands.command import Kind
from proxy.commands.table import ROWS
from proxy.reference import generated_files

ROOT = Path(__file__).parent.parent
WIDTH = 100
INDICES = ("README.md", "docs/BEHAVIOUR.md")
# Sentences with these words have a subject that a reader has to guess.
VAGUE = re.compile(
    r"\b(whoever|whomever|nobody|somebody|mend(s|ed|ing)?|wish(es|ed)?|told|strangers?"
    r"|else's|thereof|therein|whereupon|withal)\b",
    re.IGNORECASE,
)
# Packages whose comments, docstrings, messages and names are in plain words, too.
PLAIN_PACKAGES = ("tiers", "proxy", "bench")
CODE = (".py", ".pyi", ".pyx", ".pxd", ".h", ".lua")
NOT_OURS = re.compile(r'__terrace:told:|"nobody"')  # keys in Redis, an account of Unix
MEASURED = re.compile(r"<!-- bench:begin -->.*?<!-- bench:end -->", re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def written_by_programs() -> set[str]:
    return {*generated_files(), "docs/FAULTS.md"}


ALL_PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)
BY_HAND = [page for page in ALL_PAGES if page not in written_by_programs()]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blanked(text: str, *parts: re.Pattern[str]) -> str:
    """The text without these parts; every line keeps its number."""
    for part in parts:
        text = part.sub(lambda found: "\n" * found[0].count("\n"), text)
    return text


def prose_of(page: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, but for tables, code and what `make bench` wrote."""
    for number, line in enumerate(blanked(text_of(page), MEASURED, FENCED).splitlines(), 1):
        if not line.lstrip().startswith("|") and not line.startswith("    "):
            yield number, line


def sources_of(packages: tuple[str, ...]) -> list[str]:
    """The files of the code, but for those that Cython writes."""
    files = (path for package in packages for path in (ROOT / package).rglob("*"))
    return sorted(str(path.relative_to(ROOT)) for path in files if path.suffix in CODE)


def words_of(source: str) -> Iterator[tuple[int, str]]:
    """Numbered comments, strings and names; all lines of a file that is not Python."""
    text = blanked(text_of(source), NOT_OURS)
    if source.endswith((".py", ".pyi")):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            yield from enumerate(token.string.splitlines(), token.start[0])
    else:
        yield from enumerate(text.splitlines(), 1)


def parts_of(words: str) -> str:
    """`note_told` and `noteTold` are two words each."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", words)


def anchors_of(page: str) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", blanked(text_of(page), FENCED), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


def links_of(page: str) -> list[str]:
    return [
        target
        for target in LINK.findall(blanked(text_of(page), FENCED))
        if not re.match(r"[a-z]+:", target)
    ]


def test_the_pages_are_found() -> None:
    assert {*INDICES, "docs/behaviour/promises.md"} <= set(BY_HAND)
    assert written_by_programs() < {*ALL_PAGES, "conf/terrace.toml"}


@pytest.mark.parametrize("page", BY_HAND)
def test_no_line_of_prose_is_long(page: str) -> None:
    assert [f"{number}: {line}" for number, line in prose_of(page) if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_subjects_are_named(page: str) -> None:
    text = blanked(text_of(page), MEASURED, FENCED, re.compile(r"`[^`]*`"))
    lines = enumerate(text.splitlines(), 1)
    assert [f"{number}: {line}" for number, line in lines if VAGUE.search(line)] == []


@pytest.mark.parametrize("source", sources_of(PLAIN_PACKAGES))
def test_the_code_speaks_in_plain_words(source: str) -> None:
    found = [f"{n}: {words}" for n, words in words_of(source) if VAGUE.search(parts_of(words))]
    assert found == []


def test_comments_strings_and_names_are_read() -> None:
    assert {"tiers/stack.py", "tiers/store/state.lua", "proxy/client/_pipe.pyx"} <= set(
        sources_of(PLAIN_PACKAGES)
    )
    assert any("tier" in words for _, words in words_of("tiers/base.py"))
    assert VAGUE.search(parts_of("_note_told"))
    assert VAGUE.search(parts_of("isTold"))
    assert not VAGUE.search(parts_of("retold"))


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_resolve(page: str) -> None:
    broken = []
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        anchors = anchors_of(str(file.relative_to(ROOT))) if anchor and file.exists() else {""}
        if not file.exists() or anchor not in anchors:
            broken.append(target)
    assert broken == []


def test_every_page_is_in_an_index() -> None:
    linked = {
        str(((ROOT / index).parent / target.partition("#")[0]).resolve().relative_to(ROOT))
        for index in INDICES
        for target in links_of(index)
    }
    assert [page for page in ALL_PAGES if page.startswith("docs/") and page not in linked] == []


@pytest.mark.parametrize("page", BY_HAND)
def test_paths_of_the_code_exist(page: str) -> None:
    """Those in backticks, as `proxy/flow/` or `tests/test_prose.py::test_links_resolve`."""
    named = re.findall(r"`((?:tiers|proxy|tests|conf|docs|bench)/[\w./-]*)[:`]", text_of(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_is_refused_is_on_the_page_of_what_is_not_supported() -> None:
    page = text_of("docs/behaviour/unsupported.md")
    refused = [row.name for row in ROWS if row.kind is Kind.REFUSED]
    assert refused
    assert [name for name in refused if f"`{name}`" not in page] == []


def test_every_room_is_on_the_map() -> None:
    rooms = {
        f"{file.parent.relative_to(ROOT).as_posix()}/"
        for top in ("tiers", "proxy")
        for file in (ROOT / top).rglob("__init__.py")
    }
    page = text_of("docs/ARCHITECTURE.md")
    assert [room for room in sorted(rooms) if f"`{room}`" not in page] == []


@pytest.mark.parametrize("page", BY_HAND)
def test_metrics_that_a_page_names_exist(page: str) -> None:
    """A name that ends in an ellipsis is the beginning of several."""
    figures = text_of("docs/METRICS.md")
    named = re.findall(r"`(terrace_[a-z0-9_]*[a-z0-9_])(…?)`", text_of(page))
    assert [n for n, more in named if f"`{n}" + ("" if more else "`") not in figures] == []
