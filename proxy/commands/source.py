"""Reads the commands of L2 after every connect, and adapts the command table."""

from __future__ import annotations

import asyncio
import logging

from tiers import L2Redis, ServerError, TierUnavailable

from .check import CommandCheck, check, subcommands
from .command import CommandTable
from .table import ROWS

log = logging.getLogger("terrace.commands")


class ServerCommands:
    """The commands of L2, and `table`, which follows them.

    Before the first answer, and if L2 refuses COMMAND, the rows of the table apply.
    """

    def __init__(self, l2: L2Redis) -> None:
        self._l2 = l2
        self._connected = asyncio.Event()
        self._logged = ""
        self.table = CommandTable(ROWS)
        self.state = "not compared yet"
        self.result = CommandCheck(ROWS)
        self.client_subcommands: frozenset[bytes] = frozenset()  # in upper case

    def __repr__(self) -> str:
        return f"<ServerCommands {self.state}>"

    async def keep(self) -> None:
        """Compare now, and after every reconnect: it may be another server."""
        self._l2.on_connect.append(self._connected.set)
        while True:
            self._connected.clear()
            await self.refresh()
            await self._connected.wait()

    async def refresh(self) -> None:
        """Compare. Sets `state`, without an exception, if L2 is down or refuses."""
        try:
            reply = await self._l2.call(b"COMMAND")
        except TierUnavailable:
            return  # the connection reports it; the next one asks again
        except ServerError as refusal:
            self._note(f"not compared: COMMAND: {refusal}", warning=True)
            return
        self.result = found = check(ROWS, reply)
        self.client_subcommands = subcommands(reply, b"client")
        self.table.replace(found.rows)
        version = self._l2.server_version
        self._note(f"redis {version}: {found.text() or 'as in the table'}")

    def _note(self, state: str, *, warning: bool = False) -> None:
        self.state = state
        if state != self._logged and (warning or self.result.differs):
            log.log(logging.WARNING if warning else logging.INFO, "commands of L2: %s", state)
        self._logged = state
