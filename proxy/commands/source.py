"""Asks L2 for its commands whenever it was connected, and has the table follow them."""

from __future__ import annotations

import asyncio
import logging

from tiers import L2Redis, ServerError, TierUnavailable

from .check import CommandCheck, check, subcommands
from .command import CommandTable
from .table import ROWS

log = logging.getLogger("terrace.commands")


class ServerCommands:
    """The commands of L2, and `table`, which is kept in agreement with them.

    Before the first answer, and where COMMAND is refused, the rows of the table hold.
    """

    def __init__(self, l2: L2Redis) -> None:
        self._l2 = l2
        self._connected = asyncio.Event()
        self._told = ""
        self.table = CommandTable(ROWS)
        self.state = "not compared yet"
        self.result = CommandCheck(ROWS)
        self.client_subcommands: frozenset[bytes] = frozenset()  # in upper case

    def __repr__(self) -> str:
        return f"<ServerCommands {self.state}>"

    async def keep(self) -> None:
        """Compare now, and again after every reconnect: the server may be another one."""
        self._l2.on_connect.append(self._connected.set)
        while True:
            self._connected.clear()
            await self.refresh()
            await self._connected.wait()

    async def refresh(self) -> None:
        """Never raises for an L2 that is down or refuses: `state` then says so."""
        try:
            reply = await self._l2.call(b"COMMAND")
        except TierUnavailable:
            return  # told by the connection; it will be asked when it is back
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
        if state != self._told and (warning or self.result.differs):
            log.log(logging.WARNING if warning else logging.INFO, "commands of L2: %s", state)
        self._told = state
