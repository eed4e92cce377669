"""The limit on open files is raised as far as it may, and told where it is too low."""

from __future__ import annotations

import logging
import resource

import pytest

from proxy.workers.descriptors import OWN, raise_limit


class Limits:
    def __init__(self, soft: int, hard: int, *, fixed: bool = False) -> None:
        self.soft, self.hard, self._fixed = soft, hard, fixed

    def get(self, what: int) -> tuple[int, int]:
        assert what == resource.RLIMIT_NOFILE
        return self.soft, self.hard

    def set(self, what: int, limits: tuple[int, int]) -> None:
        if self._fixed:
            raise ValueError("not allowed")
        self.soft, self.hard = limits


def of(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> Limits:
    monkeypatch.setattr("proxy.workers.descriptors.resource.getrlimit", limits.get)
    monkeypatch.setattr("proxy.workers.descriptors.resource.setrlimit", limits.set)
    return limits


def test_it_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = of(monkeypatch, Limits(1024, 500_000))
    assert raise_limit(10_000, 500) == 10_000
    assert (limits.soft, limits.hard) == (10_000 + 500 + OWN, 500_000)
    assert raise_limit(1000, 500) == 1000
    assert limits.soft == 10_000 + 500 + OWN


def test_too_few_files_mean_fewer_clients_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "terrace")
    limits = of(monkeypatch, Limits(1024, 4096))
    assert raise_limit(10_000, 500) == 4096 - 500 - OWN
    assert limits.soft == 4096
    (record,) = caplog.records
    assert f"ulimit -n` to {10_000 + 500 + OWN}" in record.getMessage()


def test_very_few_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    of(monkeypatch, Limits(256, 256))
    assert raise_limit(10_000, 500) == 128


def test_a_limit_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    of(monkeypatch, Limits(1024, resource.RLIM_INFINITY, fixed=True))
    assert raise_limit(10_000, 500) == 512
    of(monkeypatch, Limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert raise_limit(10_000, 500) == 10_000
