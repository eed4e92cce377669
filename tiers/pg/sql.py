"""Composes SQL: quoted identifiers, and queries rendered once.

Rule: a rendered query is always executed with parameters, if only (), because "%" is
special only then; so `identifier` and `verbatim` double it.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql


def identifier(*names: str) -> sql.Composable:
    """A quoted name, with its schema before it if given."""
    return verbatim(sql.Identifier(*names).as_string(None))


def literal(text: str) -> sql.Composable:
    """A quoted text, for places without parameters: the body of a function."""
    return verbatim(sql.Literal(text).as_string(None))


def verbatim(text: str) -> sql.Composable:
    """SQL from another source: the configuration (`query`), never a client."""
    return sql.SQL(text.replace("%", "%%"))


def render(template: LiteralString, **parts: sql.Composable) -> bytes:
    """The query as bytes: psycopg caches its analysis of bytes, but not of objects."""
    return sql.SQL(template).format(**parts).as_bytes(None)


def joined(separator: LiteralString, parts: list[sql.Composable]) -> sql.Composable:
    return sql.SQL(separator).join(parts)
