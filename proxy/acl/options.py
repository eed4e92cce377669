"""The options of access control."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tiers.proxy_door import Options, Seconds


class AclOptions(Options):
    """Users and their rights, in Redis' ACL rules."""

    source: Literal["none", "file", "redis"] = "none"
    """"none": only the default user, with all rights. "file": the users of acl.file.
    "redis": the users of L2, from ACL LIST (the user of l2.url needs +acl|list)."""
    file: str = ""
    """File of users, one `user <name> <rule> ...` per line, as in Redis. ACL LOAD re-reads it."""
    refresh_s: Annotated[Seconds, Field(gt=0)] = 10.0
    """How often the users are read from L2; they are also read after each reconnect."""
    scripts: Literal["refuse", "declared_keys"] = "refuse"
    """Scripts of users without all rights; a script runs in Redis with the rights of l2.url.
    "refuse": refuse them. "declared_keys": check only the keys that they declare."""
    log_max: Annotated[int, Field(ge=0, le=100_000)] = 128
    """Maximum number of entries of ACL LOG."""
