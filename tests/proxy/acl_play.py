"""A play with users, and what refused ones are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proxy.acl.source import read_users
from tests.proxy.session_play import Play, command
from tiers.wire.resp import OK

USERS = """\
# the application, a reader of one corner, somebody who may not run transactions
user default on nopass ~* &* +@all
user bob on >pw ~mine:* &mine.* +@all -@dangerous
user reader on >pw %R~mine:* +@read +auth
user root on >pw ~* &* +@all
user gone off >pw ~* &* +@all
user noexec on >pw ~* &* +@all -exec
"""
NO_KEY = b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
NO_CHANNEL = (
    b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
)
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def no_command(name: str) -> bytes:
    return f"-NOPERM this user has no permissions to run the '{name}' command\r\n".encode()


def users_file(folder: Path) -> Path:
    path = folder / "users.acl"
    path.write_text(USERS)
    return path


def play(file: Path, **acl: Any) -> Play:
    return Play(acl={"source": "file", "file": str(file), **acl})


def log_in(client: Any, name: str = "bob") -> None:
    client >> command("AUTH", name, "pw")
    client << OK


def adopt(p: Play, file: Path, *replacements: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    p.terrace.acl.adopt(read_users(str(file)))
