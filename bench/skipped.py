"""What cannot be measured on this machine, or by this build, and why."""

from __future__ import annotations


class Skipped(Exception):
    """The text is the reason, in one line, for the person who reads the results."""
