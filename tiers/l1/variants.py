"""The variants under which L1 stores the reads of a key.

GET has one variant for each database, which clients of RESP2 and RESP3 share. The variant of
any other read is its encoded request, for each protocol and database.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..wire.resp import pack
from .namespaces import ungated


def get_variant(db: int) -> bytes:
    """The variant of GET."""
    return b"%d" % db if db else b""


# twin: _pipe._name_variant
def read_variant(proto: int, db: int, raw: bytes) -> bytes:
    """The variant of any other read; `raw` is the encoded request."""
    return b"%d:%d:%b" % (proto, db, raw)


@dataclass(frozen=True, slots=True)
class Read:
    """The read of a key that is stored under this variant."""

    key: bytes
    variant: bytes

    @property
    def _parts(self) -> list[bytes]:
        return ungated(self.variant).split(b":", 2)

    @property
    def proto(self) -> int:
        """The protocol of the stored reply; GET is always stored as RESP3."""
        parts = self._parts
        return int(parts[0]) if len(parts) == 3 else 3

    @property
    def db(self) -> int:
        parts = self._parts
        return int(parts[1] if len(parts) == 3 else parts[0] or b"0")

    @property
    def request(self) -> bytes:
        """The encoded request."""
        parts = self._parts
        return parts[2] if len(parts) == 3 else pack([b"GET", self.key])
