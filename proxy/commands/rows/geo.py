"""Geographic positions, stored in sorted sets."""

from __future__ import annotations

from ..access import geo_store_keys
from ..command import Kind, row

ROWS = (
    row("GEOADD", Kind.WRITE, "-5 @write @geo @slow W:1"),
    row("GEODIST", Kind.CACHED, "-4 @read @geo @slow R:1"),
    row("GEOHASH", Kind.CACHED, "-2 @read @geo @slow R:1"),
    row("GEOPOS", Kind.CACHED, "-2 @read @geo @slow R:1", resp2="null_array"),
    row(
        "GEORADIUS",
        Kind.OPAQUE,
        "-6 @write @geo @slow ?",
        finder=geo_store_keys,
        keys=(1, 1, 1),
        acl_keys=True,
    ),
    row(
        "GEORADIUSBYMEMBER",
        Kind.OPAQUE,
        "-5 @write @geo @slow ?",
        finder=geo_store_keys,
        keys=(1, 1, 1),
        acl_keys=True,
    ),
    row("GEORADIUSBYMEMBER_RO", Kind.READ, "-5 @read @geo @slow R:1"),
    row("GEORADIUS_RO", Kind.READ, "-6 @read @geo @slow R:1"),
    row("GEOSEARCH", Kind.CACHED, "-7 @read @geo @slow R:1"),
    row("GEOSEARCHSTORE", Kind.WRITE, "-8 @write @geo @slow W:1 R:2"),
)
