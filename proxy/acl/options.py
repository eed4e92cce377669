"""The options of access control."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tiers import Options, Seconds


class AclOptions(Options):
    """Users and what they may do, in Redis' ACL rules."""

    source: Literal["none", "file", "redis"] = "none"
    """"none": only the default user, who may do everything. "file": the users of acl.file.
    "redis": those of L2, by ACL LIST (the user of l2.url needs +acl|list)."""
    file: str = ""
    """Users, one `user <name> <rule> ...` a line, as in Redis' users.acl; ACL LOAD re-reads it."""
    refresh_s: Annotated[Seconds, Field(gt=0)] = 10.0
    """How often the users are taken from L2 again; also done whenever L2 was reconnected."""
    scripts: Literal["refuse", "declared_keys"] = "refuse"
    """What becomes of scripts of users without all rights, since a script runs in Redis with the
    rights of l2.url: "refuse" them, or check no more than the keys they declare."""
    log_max: Annotated[int, Field(ge=0, le=100_000)] = 128
    """Entries kept for ACL LOG."""
