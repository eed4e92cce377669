"""Puts load on a server and measures its cost per operation, with one of two generators."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from .cpu import cpu_time, pin
from .results import Sample
from .workloads import Workload

CALIBRATION_S = 0.2  # a shorter run gives no reliable rate
LONGEST_RUN_S = 300.0


class LoadError(Exception):
    """The generator failed; the text is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """The command of many clients; placeholders as in `bench.generator`."""

    command: tuple[str, ...]
    pipeline: int = 1
    clients: int = 50
    keyspace: int = 10_000
    first: int = 0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The measurements of the clients."""

    requests: int
    ops_per_s: float
    p50_ms: float
    p99_ms: float


class Generator(Protocol):
    name: str

    def run(self, port: int, spec: LoadSpec, requests: int) -> LoadResult:
        """Send this number of requests. Raises LoadError."""


class RedisBenchmark:
    """redis-benchmark, from the PATH."""

    def __init__(self, program: str, *cores: int) -> None:
        self._program = program
        self._cores = cores
        found = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"\d+\.\d+\.\d+", found)
        self.name = f"redis-benchmark {version[0] if version else ''}".strip()

    def run(self, port: int, spec: LoadSpec, requests: int) -> LoadResult:
        command = [
            self._program, "--csv", "--precision", "3", "-p", str(port), "-c", str(spec.clients),
            "-P", str(spec.pipeline), "-n", str(requests), "-r", str(spec.keyspace),
            *(["--threads", str(len(self._cores))] if len(self._cores) > 1 else []), *spec.command,
        ]  # fmt: skip
        rows = list(csv.DictReader(io.StringIO(_output_of(command, *self._cores))))
        if not rows:
            raise LoadError(f"{self.name} printed no figures for {spec.command[0]}")
        return LoadResult(
            requests=requests,
            ops_per_s=float(rows[-1]["rps"]),
            p50_ms=float(rows[-1]["p50_latency_ms"]),
            p99_ms=float(rows[-1]["p99_latency_ms"]),
        )


class OwnGenerator:
    """`bench.generator`: slower with deep pipelines, but always available, with distinct keys."""

    name = "bench.generator (uvloop)"

    def __init__(self, core: int) -> None:
        self._core = core

    def run(self, port: int, spec: LoadSpec, requests: int) -> LoadResult:
        command = [
            sys.executable, "-m", "bench.generator", "--port", str(port),
            "--clients", str(spec.clients), "--pipeline", str(spec.pipeline),
            "--requests", str(requests), "--keyspace", str(spec.keyspace),
            "--first", str(spec.first), "--", *spec.command,
        ]  # fmt: skip
        counts = json.loads(_output_of(command, self._core))
        if counts["errors"] or counts["nils"]:
            raise LoadError(
                f"{counts['errors']} errors and {counts['nils']} nils "
                f"among {counts['replies']} replies to {' '.join(spec.command)}"
            )
        return _result(counts)

    def run_workload(self, port: int, mix: Workload, requests: int, seed: int) -> LoadResult:
        """Send a workload, whose replies may be nil. Raises LoadError."""
        command = [
            sys.executable, "-m", "bench.generator", "--port", str(port),
            "--clients", str(mix.clients), "--pipeline", str(mix.pipeline),
            "--requests", str(requests), "--workload", mix.name, "--seed", str(seed),
        ]  # fmt: skip
        counts = json.loads(_output_of(command, self._core))
        if counts["errors"]:
            raise LoadError(
                f"{counts['errors']} errors among {counts['replies']} replies to {mix.title}"
            )
        return _result(counts)


def choose_generator(*cores: int) -> Generator:
    """Choose redis-benchmark, with one thread per core, or `bench.generator`, with one thread."""
    program = shutil.which("redis-benchmark")
    return RedisBenchmark(program, *cores) if program else OwnGenerator(cores[0])


def calibrate(generator: Generator, port: int, spec: LoadSpec, seconds: float) -> int:
    """The number of requests that take `seconds`; also warms the server up."""
    round_of_all = spec.clients * spec.pipeline
    requests = round_of_all * 20
    while True:
        rate = generator.run(port, spec, requests).ops_per_s
        if requests / rate >= CALIBRATION_S:
            return max(1, round(rate * seconds / round_of_all)) * round_of_all
        requests *= 4


def sample(generator: Generator, port: int, pid: int, spec: LoadSpec, requests: int) -> Sample:
    """One measured run against `port`, with the CPU time of process `pid` per operation."""
    before = cpu_time(pid)
    result = generator.run(port, spec, requests)
    spent = cpu_time(pid) - before
    return Sample(
        user_us=spent.user_us / result.requests,
        system_us=spent.system_us / result.requests,
        ops_per_s=result.ops_per_s,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
    )


def _result(counts: dict[str, Any]) -> LoadResult:
    return LoadResult(counts["replies"], counts["ops_per_s"], counts["p50_ms"], counts["p99_ms"])


def _output_of(command: list[str], *cores: int) -> str:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        pin(process.pid, *cores)
        try:
            out, err = process.communicate(timeout=LONGEST_RUN_S)
        except BaseException as failure:
            process.kill()
            if isinstance(failure, subprocess.TimeoutExpired):
                raise LoadError(f"{command[0]} has not ended after {LONGEST_RUN_S:g} s") from None
            raise
    if process.returncode:
        lines = err.strip().splitlines() or ["no message"]
        raise LoadError(f"the load generator failed: {lines[-1]}")
    return out
