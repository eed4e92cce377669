"""The rows of the command table say which commands are of a kind: no set of names elsewhere."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from proxy.commands.table import TABLE

ROOT = Path(__file__).parents[3]
TABLE_ROOM = ROOT / "proxy/commands"
NAMES = frozenset(name.decode() for name in TABLE.rows)


def sets_of_names(source: str) -> list[int]:
    """Lines of code where two or more commands are named as being of one kind."""
    nodes = ast.walk(ast.parse(source))
    return sorted({line for node in nodes for line, words in _groups(node) if _is_set(words)})


def _groups(node: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """The words of a collection, of the keys of a dict, of the cases of a `match`, of a text that
    is split, and those that one thing is compared with."""
    match node:
        case ast.Set() | ast.Tuple() | ast.List():
            yield node.lineno, _words(node.elts)
        case ast.Dict():
            yield node.lineno, _words(key for key in node.keys if key is not None)
        case ast.Match():
            patterns = [each for case in node.cases for each in ast.walk(case.pattern)]
            yield node.lineno, _words(e.value for e in patterns if isinstance(e, ast.MatchValue))
        case ast.Call(func=ast.Attribute(attr="split", value=ast.Constant(value=str(text)))):
            yield node.lineno, text.split()
        case ast.BoolOp():
            compared: dict[str, list[ast.expr]] = {}
            for value in node.values:
                if isinstance(value, ast.Compare):
                    compared.setdefault(ast.unparse(value.left), []).extend(value.comparators)
            for others in compared.values():
                yield node.lineno, _words(others)


def _words(expressions: Iterable[ast.expr]) -> list[str]:
    values = [each.value for each in expressions if isinstance(each, ast.Constant)]
    texts = [value.decode("latin-1") if isinstance(value, bytes) else value for value in values]
    return [text for text in texts if isinstance(text, str)]


def _is_set(words: list[str]) -> bool:
    if _is_request(words):
        return False
    if len(NAMES.intersection(words)) > 1:
        return True
    # Names in lower case are words of English, too: only where there is nothing else.
    names = {word.upper() for word in words if word.islower()}
    return len(names) > 1 and names <= NAMES and len(names) == len(words)


def _is_request(words: list[str]) -> bool:
    """A command and its subcommand, as they are sent to Redis: CONFIG GET."""
    facts = TABLE.find(words[0].encode("latin-1")).facts if len(words) == 2 else None
    return facts is not None and words[1].lower() in facts.subcommands


def test_no_set_of_command_names_lives_outside_the_table() -> None:
    files = [path for top in ("proxy", "tiers") for path in (ROOT / top).rglob("*.py")]
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        if not path.is_relative_to(TABLE_ROOM)
        for line in sets_of_names(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "make it a column of proxy.commands.command.Command"


@pytest.mark.parametrize(
    "source",
    [
        'DELETES = frozenset(("DEL", "UNLINK"))',
        "NAMES = {b'WAIT', b'WATCH'}",
        "KINDS = {'SUBSCRIBE': 1, 'PSUBSCRIBE': 2}",
        "scripts = ['eval', 'evalsha']",
        "name == 'EXEC' or name == 'DISCARD'",
        "name in ('EXEC', 'DISCARD')",
        "name.startswith(('EVAL', 'FCALL'))",
        "match name:\n case 'DEL': pass\n case 'UNLINK': pass",
        "match name:\n case 'DEL' | 'UNLINK': pass",
        "NAMES = 'DEL UNLINK'.split()",
    ],
)
def test_a_set_of_command_names_is_noticed(source: str) -> None:
    assert sets_of_names(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "call([b'CONFIG', b'GET', name])",
        "name == 'GET' or options == 'SET'",
        "LEVELS = ('debug', 'info', 'warning')",
    ],
)
def test_other_words_are_no_set_of_command_names(source: str) -> None:
    assert sets_of_names(source) == []
