"""Load on a server, and what one operation cost it: the two generators behind one interface."""

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

CALIBRATION_S = 0.2  # a shorter run says too little about the rate
LONGEST_RUN_S = 300.0


class LoadError(Exception):
    """The generator failed; the text says how, in one line."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What many clients ask for; placeholders as in `bench.generator`."""

    command: tuple[str, ...]
    pipeline: int = 1
    clients: int = 50
    keyspace: int = 10_000
    first: int = 0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the clients saw."""

    requests: int
    ops_per_s: float
    p50_ms: float
    p99_ms: float


class Generator(Protocol):
    name: str

    def run(self, port: int, spec: LoadSpec, requests: int) -> LoadResult:
        """Send so many requests. Raises LoadError."""


class RedisBenchmark:
    """redis-benchmark, from the PATH."""

    def __init__(self, program: str, *cores: int) -> None:
        self._program = program
        self._cores = cores
        told = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"\d+\.\d+\.\d+", told)
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
    """`bench.generator`: slower at deep pipelines, but always there, and it knows distinct keys."""

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
        told = json.loads(_output_of(command, self._core))
        if told["errors"] or told["nils"]:
            raise LoadError(
                f"{told['errors']} errors and {told['nils']} nils among {told['replies']} replies "
                f"to {' '.join(spec.command)}"
            )
        return _result(told)

    def run_workload(self, port: int, mix: Workload, requests: int, seed: int) -> LoadResult:
        """Of a workload, nils are part. Raises LoadError."""
        command = [
            sys.executable, "-m", "bench.generator", "--port", str(port),
            "--clients", str(mix.clients), "--pipeline", str(mix.pipeline),
            "--requests", str(requests), "--workload", mix.name, "--seed", str(seed),
        ]  # fmt: skip
        told = json.loads(_output_of(command, self._core))
        if told["errors"]:
            raise LoadError(
                f"{told['errors']} errors among {told['replies']} replies to {mix.title}"
            )
        return _result(told)


def choose_generator(*cores: int) -> Generator:
    """On several cores it has as many threads; `bench.generator` uses one in any case."""
    program = shutil.which("redis-benchmark")
    return RedisBenchmark(program, *cores) if program else OwnGenerator(cores[0])


def calibrate(generator: Generator, port: int, spec: LoadSpec, seconds: float) -> int:
    """How many requests take about so long; also warms up what answers them."""
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


def _result(told: dict[str, Any]) -> LoadResult:
    return LoadResult(told["replies"], told["ops_per_s"], told["p50_ms"], told["p99_ms"])


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
                raise LoadError(f"no end of {command[0]} after {LONGEST_RUN_S:g} s") from None
            raise
    if process.returncode:
        lines = err.strip().splitlines() or ["it said nothing"]
        raise LoadError(f"the load generator failed: {lines[-1]}")
    return out
