"""The PostgreSQL types that key columns may have, and the canonical text of their values.

Only the canonical text of a value is a key: "7", but not "007" or "+7", although the
server reads all three as the integer 7. Otherwise several Redis keys would cache one
row and a refresh could invalidate only one of them. No row has a text that fails here;
this saves the query, and an error that would fail all keys of its batch.

No IO, no psycopg.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyType:
    """A type that a key column may have.

    `array` is the type that parameters are cast to. It carries no length: casting to
    varchar(3) would cut a longer key to one that exists.
    """

    name: str
    array: str
    is_canonical: Callable[[str], bool]
    are_canonical: Callable[[str], bool] = lambda _: False
    """Whether all texts, joined by NUL, are canonical; False may also mean: check each one."""


SEPARATOR = "\0"  # of many texts; a key that could have a row contains none

_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]{0,18})\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)


def _is_text(_: str) -> bool:
    return True


def _is_unpadded(text: str) -> bool:
    # char(n) ignores trailing blanks in comparisons and has none in its text form.
    return not text.endswith(" ")


def _integer_of(bits: int) -> Callable[[str], bool]:
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    always_fits = len(str(highest))  # texts with fewer characters

    def is_integer(text: str) -> bool:
        if _INTEGER.match(text) is None:
            return False
        return len(text) < always_fits or lowest <= int(text) <= highest

    return is_integer


def _integers_of(digits: int) -> Callable[[str], bool]:
    """Numbers with so many digits always fit their type, so one match checks all."""
    number = rf"(?:0|-?[1-9][0-9]{{0,{digits - 1}}})"
    numbers = re.compile(rf"{number}(?:{SEPARATOR}{number})*", re.ASCII)
    return lambda text: numbers.fullmatch(text) is not None


def _are_texts(_: str) -> bool:
    return True


def _is_uuid(text: str) -> bool:
    return _UUID.match(text) is not None


def _is_date(text: str) -> bool:
    """ISO dates of the years 1 to 9999; PostgreSQL's BC, infinity and far future are no keys."""
    if _DATE.match(text) is None:
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


# By pg_type.typname. varchar compares as text does, so its index serves text[].
KEY_TYPES = {
    "text": KeyType("text", "text[]", _is_text, _are_texts),
    "varchar": KeyType("character varying", "text[]", _is_text, _are_texts),
    "bpchar": KeyType("character", "bpchar[]", _is_unpadded),
    "int2": KeyType("smallint", "int2[]", _integer_of(16), _integers_of(4)),
    "int4": KeyType("integer", "int4[]", _integer_of(32), _integers_of(9)),
    "int8": KeyType("bigint", "int8[]", _integer_of(64), _integers_of(18)),
    "uuid": KeyType("uuid", "uuid[]", _is_uuid),
    "date": KeyType("date", "date[]", _is_date),
}
