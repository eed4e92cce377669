"""The errors of the tiers, one class per cause."""

from __future__ import annotations


class TierError(Exception):
    """Base class, never raised itself. A user may see the text: it holds no secrets."""


class TierUnavailable(TierError):
    """Infrastructure: a tier cannot answer now.

    `outcome_unknown` is True if Redis may have executed a write whose acknowledgement did
    not arrive; the proxy must not retry such a write. `timed_out` is True if no answer came
    in time: the tier may still work.
    """

    def __init__(
        self, tier: str, reason: str, *, outcome_unknown: bool = False, timed_out: bool = False
    ) -> None:
        super().__init__(f"{tier} is unavailable: {reason}")
        self.tier = tier
        self.reason = reason
        self.outcome_unknown = outcome_unknown
        self.timed_out = timed_out


class MappingProblem(TierError):
    """Configuration: a mapping cannot work. Names the view (store, table) and the remedy."""

    def __init__(self, view: str, problem: str, remedy: str) -> None:
        named = view if view.startswith(("store ", "table ")) else f"view {view}"
        super().__init__(f"{named}: {problem}; {remedy}")
        self.view = view
        self.problem = problem
        self.remedy = remedy


class ProtocolError(TierError):
    """The peer sent bytes that are not RESP. Where Redis has a text for it, this is that text."""


class ServerError(TierError):
    """Redis answered with an error reply (a data error such as WRONGTYPE)."""
