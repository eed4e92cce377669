"""Who may import whom: the directions that keep the parts apart, read from the source.

Each rule is a row: which modules it is about, which imports or names it forbids
them, and why. The last test plants one violation per rule, so that a rule that
cannot fail is noticed.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    str(path.relative_to(ROOT).as_posix())
    for top in ("proxy", "tiers")
    for path in (ROOT / top).rglob("*.py")
)

SANS_IO = {
    "arena",
    "_arena_py",
    "resp",
    "_requests_py",
    "_replies_py",
    "session",
    "commands",
    "coherence",
    "pipe",
    "views",
}


@dataclass(frozen=True)
class Import:
    """`name` is empty for `import module`; a relative module is made absolute."""

    module: str
    name: str
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(file: str, source: str) -> Iterator[Import]:
    package = PurePosixPath(file).parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*outer, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)


def exported_by_tiers() -> set[str]:
    tree = ast.parse((ROOT / "tiers/__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


TIERS_EXPORTS = exported_by_tiers()


def beyond_the_tiers_package(found: Import) -> bool:
    if found.top != "tiers":
        return False
    if found.module == "tiers.wire.resp":
        return False  # the codec is public as a module: its names are short and many
    return found.module != "tiers" or found.name not in TIERS_EXPORTS


def top_is(*names: str) -> Callable[[Import], bool]:
    return lambda found: found.top in names


@dataclass(frozen=True)
class Rule:
    why: str
    applies_to: Callable[[PurePosixPath], bool]
    forbids: Callable[[Import], bool]
    violation: tuple[str, str]  # a file and a source that break the rule


def in_proxy(file: PurePosixPath) -> bool:
    return file.parts[0] == "proxy"


def in_tiers(file: PurePosixPath) -> bool:
    return file.parts[0] == "tiers"


def is_embedded(file: PurePosixPath) -> bool:
    return file.parts[:2] == ("proxy", "embedded")


def is_l3(file: PurePosixPath) -> bool:
    return in_tiers(file) and file.parts[1] in ("l3", "pg", "refresh", "store")


RULES = [
    Rule(
        "the proxy uses only what `tiers` exports",
        in_proxy,
        beyond_the_tiers_package,
        ("proxy/client/session.py", "from tiers.options import L1Options"),
    ),
    Rule(
        "the tiers know nothing of clients",
        in_tiers,
        top_is("proxy"),
        ("tiers/stack.py", "from proxy.config.model import Config"),
    ),
    Rule(
        "protocol and rules do no IO and know no event loop",
        lambda file: file.stem in SANS_IO and file.parts[1] != "l2",
        top_is("asyncio", "uvloop", "socket", "selectors"),
        ("tiers/l1/coherence.py", "import asyncio.events"),
    ),
    Rule(
        "psycopg belongs to the L3 modules",
        lambda file: not is_l3(file) and not is_embedded(file),
        top_is("psycopg", "psycopg_pool"),
        ("tiers/views.py", "def f():\n    from psycopg import sql"),
    ),
    Rule(
        "redis-py belongs to the L2 modules and to the embedded trial",
        lambda file: (
            str(file) not in ("tiers/l2/redis.py", "tiers/cluster.py") and not is_embedded(file)
        ),
        top_is("redis"),
        ("tiers/l2/upstream.py", "import redis.asyncio"),
    ),
    Rule(
        "only the composition root chooses the event loop",
        lambda file: (
            str(file) not in ("proxy/cli.py", "proxy/serve.py", "proxy/workers/supervisor.py")
        ),
        top_is("uvloop"),
        ("proxy/client/connection.py", "import uvloop"),
    ),
]


def violations(rule: Rule, file: str, source: str) -> list[str]:
    if not rule.applies_to(PurePosixPath(file)):
        return []
    return [
        f"{file}:{found.line}: {found.module} {found.name}"
        for found in imports(file, source)
        if rule.forbids(found)
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.why)
def test_nothing_breaks_the_rule(rule: Rule) -> None:
    broken = [
        line
        for file in SOURCES
        for line in violations(rule, file, (ROOT / file).read_text(encoding="utf-8"))
    ]
    assert broken == [], rule.why


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.why)
def test_the_rule_can_be_broken(rule: Rule) -> None:
    assert violations(rule, *rule.violation) != []


def unowned_tasks(file: str, source: str) -> list[str]:
    """Uses of create_task and ensure_future outside of the one module that owns tasks."""
    if file == "tiers/tasks.py":
        return []
    names = ("create_task", "ensure_future")
    found = [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in names
    ]
    found += [taken.line for taken in imports(file, source) if taken.name in names]
    return [f"{file}:{line}" for line in found]


def test_every_task_has_an_owner() -> None:
    broken = [
        line
        for file in SOURCES
        for line in unowned_tasks(file, (ROOT / file).read_text(encoding="utf-8"))
    ]
    assert broken == [], "use tiers.tasks.TaskSet.start"


@pytest.mark.parametrize(
    "source",
    ["asyncio.create_task(f())", "loop.create_task(f())", "from asyncio import ensure_future"],
)
def test_an_unowned_task_is_noticed(source: str) -> None:
    assert unowned_tasks("proxy/server.py", source) == ["proxy/server.py:1"]


def test_relative_imports_are_followed() -> None:
    found = list(
        imports(
            "proxy/handlers/scan.py",
            "from ..client.session import S\nfrom . import x\nfrom .. import y",
        )
    )
    assert [(i.module, i.name) for i in found] == [
        ("proxy.client.session", "S"),
        ("proxy.handlers", "x"),
        ("proxy", "y"),
    ]


def test_the_sources_are_found() -> None:
    assert {"proxy/config/model.py", "tiers/options.py"} <= set(SOURCES)
    assert {PurePosixPath(file).stem for file in SOURCES} >= {"resp", "_requests_py", "coherence"}


def test_psycopg_is_only_for_those_who_have_l3() -> None:
    """It would take a tenth of the time to start."""
    code = "import proxy.serve, sys; print([name for name in sys.modules if 'psycopg' in name])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout == b"[]\n"
