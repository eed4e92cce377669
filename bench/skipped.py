"""The exception for a measurement that this machine or build does not allow."""

from __future__ import annotations


class Skipped(Exception):
    """The text is the reason, in one line, for the reader of the results."""
