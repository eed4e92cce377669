"""The connection of a client: login, name, protocol, database."""

from __future__ import annotations

from ..command import Kind, row
from ..facts import InMulti, sub

WORDS_MAX = 10_000  # one turn of the loop reads them all

ROWS = (
    row(
        "AUTH",
        Kind.LOCAL,
        "-2 @fast @connection no_auth",
        in_multi=InMulti.REFUSED,
        handler="connection.auth",
    ),
    row(
        "CLIENT",
        Kind.LOCAL,
        "-2 @slow",
        sub("caching", "3 @slow @connection"),
        sub("getname", "2 @slow @connection", in_multi=InMulti.ANSWERED),
        sub("getredir", "2 @slow @connection"),
        sub("help", "2 @slow @connection"),
        sub("id", "2 @slow @connection", in_multi=InMulti.ANSWERED),
        sub("info", "2 @slow @connection", in_multi=InMulti.ANSWERED),
        sub(
            "kill",
            "-3 @admin @slow @dangerous @connection",
            in_multi=InMulti.ANSWERED,
            max_args=WORDS_MAX,
        ),
        sub(
            "list",
            "-2 @admin @slow @dangerous @connection",
            in_multi=InMulti.ANSWERED,
            max_args=WORDS_MAX,
        ),
        sub("no-evict", "3 @admin @slow @dangerous @connection", in_multi=InMulti.ANSWERED),
        sub("no-touch", "3 @slow @connection", in_multi=InMulti.ANSWERED, later=True),
        sub(
            "pause", "-3 @admin @slow @dangerous @connection", in_multi=InMulti.ANSWERED, max_args=4
        ),
        sub("reply", "3 @slow @connection", in_multi=InMulti.REFUSED),
        sub("setinfo", "4 @slow @connection", in_multi=InMulti.ANSWERED, later=True),
        sub("setname", "3 @slow @connection", in_multi=InMulti.ANSWERED),
        sub("tracking", "-3 @slow @connection", in_multi=InMulti.REFUSED, max_args=WORDS_MAX),
        sub("trackinginfo", "2 @slow @connection"),
        sub(
            "unblock",
            "-3 @admin @slow @dangerous @connection",
            in_multi=InMulti.REFUSED,
            max_args=4,
        ),
        sub("unpause", "2 @admin @slow @dangerous @connection", in_multi=InMulti.ANSWERED),
        in_multi=InMulti.BY_SUBCOMMAND,
        handler="client.client",
    ),
    row("ECHO", Kind.LOCAL, "2 @fast @connection", handler="connection.echo"),
    row(
        "HELLO",
        Kind.LOCAL,
        "-1 @fast @connection no_auth",
        in_multi=InMulti.REFUSED,
        handler="connection.hello",
    ),
    row("PING", Kind.LOCAL, "-1 @fast @connection", handler="connection.ping"),
    row(
        "QUIT", Kind.LOCAL, "-1 @fast @connection no_auth", leaves=True, handler="connection.quit_"
    ),
    row(
        "RESET", Kind.LOCAL, "1 @fast @connection no_auth", leaves=True, handler="connection.reset"
    ),
    row("SELECT", Kind.LOCAL, "2 @fast @connection", handler="connection.select"),
)
