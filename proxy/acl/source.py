"""The sources of users: a users.acl file, or Redis.

Both use the format of ACL LIST, one user per line: `user NAME rule…`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tiers import L2Redis, ServerError, TierUnavailable
from tiers.proxy_door import L2_REDIS

from .rules import User, full_user, is_valid_name
from .selector import RuleError
from .subject import Subject

log = logging.getLogger("terrace.acl")

Users = Mapping[bytes, User]


class Adopt(Protocol):
    """Makes users the current ones; `current` is the client that requested it."""

    def __call__(self, users: Users, *, current: Subject | None = None) -> None: ...


DEFAULT = b"default"
PROBLEMS_SHOWN = 10  # of a file, which may not be a file of users at all


def parse_users(
    lines: Iterable[bytes], *, lenient: bool = False
) -> tuple[dict[bytes, User], list[str]]:
    """The users and the problems, each with its line ("3: unknown …").

    A user with a wrong rule is left out. `lenient`: see `User.with_rules`.
    """
    users: dict[bytes, User] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        try:
            if words[0] != b"user" or len(words) < 2 or not is_valid_name(words[1]):
                raise RuleError("a line must be `user <name> <rule> …`")
            if words[1] in users:
                raise RuleError(f"user '{words[1].decode('utf-8', 'replace')}' is defined twice")
            users[words[1]] = User(words[1]).with_rules(words[2:], lenient=lenient)
        except RuleError as error:
            problems.append(f"{number}: {error}")
    return users, problems


class UsersFileError(Exception):
    """The file of users is invalid; the text has the first problems, with file and line."""

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - PROBLEMS_SHOWN
        self.problems = problems[:PROBLEMS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        super().__init__("; ".join(self.problems))


def read_users(file: str) -> Users:
    """Read a file. As in Redis, a default user that it lacks is open. Raises UsersFileError."""
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise UsersFileError([f"{file}: cannot be read: {error.strerror}"]) from None
    except ValueError:  # a NUL in it
        raise UsersFileError(["this is not the name of a file"]) from None
    users, problems = parse_users(text.splitlines())
    if problems:
        raise UsersFileError([f"{file}:{problem}" for problem in problems])
    return {DEFAULT: full_user(DEFAULT), **users}


class RedisUsers:
    """The users of L2, read at every interval.

    While L2 is down, the last known users stay; before the first answer there are none.
    `problem` is the current problem.
    """

    def __init__(self, l2: L2Redis, refresh_s: float, adopt: Adopt) -> None:
        self._l2 = l2
        self._refresh_s = refresh_s
        self._adopt = adopt
        self._hurry = asyncio.Event()
        self.problem = "they have not been read yet"

    def __repr__(self) -> str:
        return f"<RedisUsers {self.problem or 'up to date'}>"

    async def keep(self) -> None:
        """Refresh at every interval, and at once after L2 was reconnected."""
        self._l2.on_connect.append(self._hurry.set)
        while True:
            self._hurry.clear()
            await self.refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._refresh_s):
                    await self._hurry.wait()

    async def refresh(self, current: Subject | None = None) -> None:
        """Read the users. Sets `problem`, without an exception, if L2 is down or refuses."""
        try:
            lines = await self._l2.call(b"ACL", b"LIST")
        except TierUnavailable as failure:
            self._note(failure.reason)
            return
        except ServerError as refusal:
            self._note(f"ACL LIST: {refusal}; the user of l2.url needs +acl|list")
            return
        users, problems = parse_users(map(_raw, lines), lenient=True)
        # An invalid default user gets no rights; it must not become the open default of Redis.
        users.setdefault(DEFAULT, User(DEFAULT))
        self._note("", "; ".join(f"user left out: line {problem}" for problem in problems))
        self._adopt(users, current=current)

    def _note(self, problem: str, warning: str = "") -> None:
        text = problem or warning
        if text and text != self.problem:
            log.warning("users of %s: %s", L2_REDIS, text)
        self.problem = text


def _raw(line: bytes | str) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
