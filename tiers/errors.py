"""The few errors of the tiers, sorted by whose fault they are."""

from __future__ import annotations


class TierError(Exception):
    """Base; never raised itself. The text is fit to be shown to a user: no secrets."""


class TierUnavailable(TierError):
    """Infrastructure: a tier cannot answer now.

    `outcome_unknown` is True when a write may have been carried out although no
    acknowledgement arrived; such a write must not be retried by the proxy. `timed_out`
    says that no answer came in time: the tier may be there all the same.
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
    """Configuration: a mapping that cannot work. Says which view (store, table) and the mend."""

    def __init__(self, view: str, problem: str, mend: str) -> None:
        named = view if view.startswith(("store ", "table ")) else f"view {view}"
        super().__init__(f"{named}: {problem}; {mend}")
        self.view = view
        self.problem = problem
        self.mend = mend


class ProtocolError(TierError):
    """The peer sent bytes that are not RESP; the text is Redis' own where it has one."""


class ServerError(TierError):
    """Redis answered with an error reply (a data error such as WRONGTYPE)."""
