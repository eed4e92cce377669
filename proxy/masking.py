"""Removes secrets from text for users: URLs, connection strings, log lines.

Masking prefers to hide too much. It removes the user part of a URL, a password after the
host separator whose `@host` was forgotten, and `password=…` in libpq strings and URL
queries.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_USER_PART = re.compile(r"(?<=://)\S*@")
_FORGOTTEN_HOST = re.compile(r"(://[^\s/@:\[]*:)(?!\d{1,5}(?:[/?,\s\"']|\Z))[^\s/?@]+")
_PASSWORD = re.compile(
    r"(?i)((?:password|passwd|pass|pwd)\s*=\s*)('(?:[^'\\]|\\.)*(?:'|\Z)|[^\s&'\"]+)", re.DOTALL
)
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROL |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\n", 0x2029: "\\n"}


def mask(text: str) -> str:
    """Any text, such as a log line or an error message of a library, without its secrets."""
    text = _USER_PART.sub(f"{HIDDEN}@", text)
    text = _FORGOTTEN_HOST.sub(rf"\1{HIDDEN}", text)
    return _PASSWORD.sub(rf"\1{HIDDEN}", text)


def mask_option(text: str) -> str:
    """The value of one option, without everything before the last `@`."""
    if "@" in text:
        scheme, _, rest = text.rpartition("@")[0].partition("://")
        shown = f"{scheme}://" if rest and scheme.isalpha() else ""
        text = f"{shown}{HIDDEN}@{text.rpartition('@')[2]}"
    return mask(text)


def one_line(text: str) -> str:
    """The text without secrets and without control characters."""
    return escaped(mask(text))


def escaped(text: str) -> str:
    """The text with escapes for characters that could move a cursor or begin a line."""
    return text.translate(_CONTROL).encode("utf-8", "backslashreplace").decode()
