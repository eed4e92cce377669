"""Finds the line of each key of a TOML document: path -> line number.

Error messages need the line, which the standard parser does not give. `locate` reads
only documents that `tomllib` has already accepted, so it checks nothing.
"""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str | int, ...]

_PIECE = re.compile(
    r'''
      """(?:\\.|[^\\])*?"{3,5}      # multi-line strings first: they begin like the short ones
    | \'\'\'.*?\'{3,5}
    | "(?:\\.|[^"\\])*"
    | '[^']*'
    | \#[^\n]*
    | \n
    | [\[\]{}=.,]
    | [^\s\[\]{}=.,#"']+
    ''',
    re.VERBOSE | re.DOTALL,
)


def locate(text: str) -> dict[KeyPath, int]:
    """Lines of all table headers and keys; tables of an array are numbered from 0.

    Keys inside an inline table have no entry of their own: the line is that of the
    statement they are part of.
    """
    return _Locator().read(text)


class _Locator:
    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        self._last_item: dict[KeyPath, int] = {}

    def read(self, text: str) -> dict[KeyPath, int]:
        statement: list[str] = []
        line = first_line = 1
        depth = 0  # of brackets within a value: newlines there do not end the statement
        in_value = False
        for match in _PIECE.finditer(text):
            piece = match[0]
            if piece == "\n" and depth == 0:
                self._end_statement(statement, first_line)
                statement, in_value = [], False
            elif piece[0] not in "#\n":
                if not statement:
                    first_line = line
                statement.append(piece)
                if in_value:
                    depth += (piece in "[{") - (piece in "]}")
                in_value = in_value or piece == "="
            line += piece.count("\n")
        self._end_statement(statement, first_line)
        return self.lines

    def _end_statement(self, pieces: list[str], line: int) -> None:
        if not pieces:
            return
        if pieces[0] != "[":
            path = self._table + _names(pieces[: pieces.index("=")])
        elif pieces[1] == "[":
            array = self._current(_names(pieces[2:-2]))
            self._last_item[array] = self._last_item.get(array, -1) + 1
            path = self._table = (*array, self._last_item[array])
        else:
            path = self._table = self._current(_names(pieces[1:-1]))
        self.lines.setdefault(path, line)

    def _current(self, names: KeyPath) -> KeyPath:
        """[a.b.c] after [[a.b]] refers to the newest table of that array."""
        path: KeyPath = ()
        for i, name in enumerate(names):
            path = (*path, name)
            if i < len(names) - 1 and path in self._last_item:
                path = (*path, self._last_item[path])
        return path


def _names(pieces: list[str]) -> KeyPath:
    return tuple(_unquoted(piece) for piece in pieces if piece != ".")


def _unquoted(piece: str) -> str:
    if piece[0] in "\"'":
        return str(tomllib.loads(f"key = {piece}")["key"])
    return piece
