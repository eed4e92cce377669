"""Scripts and functions."""

from __future__ import annotations

from ..command import Kind, row
from ..facts import InMulti, sub

ROWS = (
    row("EVAL", Kind.OPAQUE, "-3 @slow @scripting RW:2#", scripts=True, held_in_pause=True),
    row("EVALSHA", Kind.OPAQUE, "-3 @slow @scripting RW:2#", scripts=True, held_in_pause=True),
    row("EVALSHA_RO", Kind.READ, "-3 @slow @scripting R:2#", scripts=True),
    row("EVAL_RO", Kind.READ, "-3 @slow @scripting R:2#", scripts=True),
    row("FCALL", Kind.OPAQUE, "-3 @slow @scripting RW:2#", scripts=True, held_in_pause=True),
    row("FCALL_RO", Kind.READ, "-3 @slow @scripting R:2#", scripts=True),
    row(
        "FUNCTION",
        Kind.LOCAL,
        "-2 @slow",
        sub("delete", "3 @write @slow @scripting"),
        sub("dump", "2 @slow @scripting"),
        sub("flush", "-2 @write @slow @scripting"),
        sub("help", "2 @slow @scripting"),
        sub("kill", "2 @slow @scripting"),
        sub("list", "-2 @slow @scripting"),
        sub("load", "-3 @write @slow @scripting"),
        sub("restore", "-3 @write @slow @scripting"),
        sub("stats", "2 @slow @scripting"),
        scripts=True,
        handler="scripting.script",
    ),
    row(
        "SCRIPT",
        Kind.LOCAL,
        "-2 @slow",
        sub("debug", "3 @slow @scripting", in_multi=InMulti.REFUSED),
        sub("exists", "-3 @slow @scripting"),
        sub("flush", "-2 @slow @scripting"),
        sub("help", "2 @slow @scripting"),
        sub("kill", "2 @slow @scripting"),
        sub("load", "3 @slow @scripting"),
        scripts=True,
        in_multi=InMulti.BY_SUBCOMMAND,
        handler="scripting.script",
    ),
)
