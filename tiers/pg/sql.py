"""Composing SQL: quoted identifiers, and queries rendered once.

Rule of the l3 modules: a rendered query is always executed with parameters, if only
(), because that is when "%" is special; so `identifier` and `verbatim` double it.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql


def identifier(*names: str) -> sql.Composable:
    """A quoted name, qualified by those before it."""
    return verbatim(sql.Identifier(*names).as_string(None))


def literal(text: str) -> sql.Composable:
    """A quoted text, where no parameter can be: in the body of a function."""
    return verbatim(sql.Literal(text).as_string(None))


def verbatim(text: str) -> sql.Composable:
    """SQL that comes from elsewhere: from the configuration (`query`), never from a client."""
    return sql.SQL(text.replace("%", "%%"))


def render(template: LiteralString, **parts: sql.Composable) -> bytes:
    """The query as bytes: psycopg keeps what it derived from bytes, but not from objects."""
    return sql.SQL(template).format(**parts).as_bytes(None)


def joined(separator: LiteralString, parts: list[sql.Composable]) -> sql.Composable:
    return sql.SQL(separator).join(parts)
