"""The command line: what is printed where, the exit codes, and no traceback ever."""

import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from proxy import check as check_module
from proxy import cli, log
from proxy.check import Findings
from proxy.config.model import Config
from proxy.config.text import describe

Run = Callable[[Config], int]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(log, "set_up", lambda options: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def serves(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Puts a function in the place of proxy.serve.run."""

    def install(run: Run) -> None:
        server = types.ModuleType("proxy.serve")
        server.run = run
        monkeypatch.setitem(sys.modules, "proxy.serve", server)

    return install


def exit_of(argv: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_serve_runs_the_server_with_the_configuration(serves: Callable[[Run], None]) -> None:
    served: list[Config] = []

    def run(config: Config, read: object) -> int:
        served.append(config)
        return 7

    serves(run)
    assert cli.main(["serve", "--set", "listen.port=1234", "--set", "l1.enabled=no"]) == 7
    assert served[0].listen.port == 1234
    assert not served[0].l1.enabled


def test_a_config_file_and_the_environment_are_read(
    serves: Callable[[Run], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Config] = []
    serves(lambda config, read: served.append(config) or 0)
    (tmp_path / "t.toml").write_text("[listen]\nport = 1\nbacklog = 1\n")
    monkeypatch.setenv("TERRACE_LISTEN__PORT", "2")
    assert cli.main(["serve", "--config", str(tmp_path / "t.toml")]) == 0
    assert (served[0].listen.port, served[0].listen.backlog) == (2, 1)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_configuration(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--set", "workers=0", "--set", "l1.max_bytes=x"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "terrace: the configuration has 2 problems:",
        'flag --set: workers = "0": must be at least 1',
        'flag --set: l1.max_bytes = "x": a size like 64KiB, 256MiB or 1GB is needed',
    ]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_help_lists_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of([command, "--help"]) == 0
    printed = capsys.readouterr().out
    for row in describe():
        if "[]" in row.path:
            assert f"      {row.name} " in printed
        else:
            assert f"  {row.path} = {row.default_text} " in printed
            assert row.env in printed


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(["--help"]) == 0
    listed = re.findall(r"^  ([\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert set(cli.COMMANDS) <= set(listed)


def test_no_command_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert exit_of(["sevre"]) == 2
    assert "invalid choice: 'sevre'" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(["--version"]) == 0
    assert capsys.readouterr().out.startswith("terrace ")


@pytest.mark.parametrize("command", ["run", "demo"])
def test_the_trial_commands_get_all_their_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Sequence[str]] = []
    module = types.ModuleType(f"proxy.embedded.{command}")
    module.main = lambda argv: got.append(argv) or 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert cli.main([command, "--dir", "x", "--help"]) == 3
    assert list(got[0]) == ["--dir", "x", "--help"]


@pytest.mark.parametrize("missing", cli.DEMO_NEEDS)
def test_the_demo_names_the_extra_that_it_needs(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "proxy.embedded.demo", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["demo"]) == 1
    err = capsys.readouterr().err
    assert f"needs {missing}" in err
    assert "redis-terrace[embedded]" in err


class TestCheck:
    @pytest.fixture
    def finds(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Findings], None]:
        def install(findings: Findings) -> None:
            async def check(config: Config) -> Findings:
                return findings

            monkeypatch.setattr(check_module, "check", check)

        return install

    def test_nothing_wrong(
        self, finds: Callable[[Findings], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        finds(Findings([], ["a note"]))
        assert cli.main(["check"]) == 0
        assert capsys.readouterr().out.splitlines()[-2:] == ["a note", "OK"]

    def test_one_line_per_problem(
        self, finds: Callable[[Findings], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        finds(Findings(["one", "two"], ["a note"]))
        assert cli.main(["check"]) == 1
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "one\ntwo\n")


class TestUnexpected:
    """An error that nobody foresaw."""

    def test_is_one_line_and_a_file_with_the_trace(
        self,
        serves: Callable[[Run], None],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        def run(config: Config, read: object) -> int:
            raise RuntimeError("redis://u:hunter2@h\nis gone")

        serves(run)
        assert cli.main(["serve"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "terrace: unexpected RuntimeError: redis://***@h\\nis gone; the full"
        )
        (file,) = tmp_path.glob("terrace-error-*.txt")
        assert line.endswith(str(file))
        assert "in run" in file.read_text()
        assert "hunter2" not in file.read_text()
        assert file.stat().st_mode & 0o077 == 0

    def test_without_a_place_for_the_trace(
        self,
        serves: Callable[[Run], None],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
        serves(lambda config, read: 1 // 0)
        assert cli.main(["serve"]) == 1
        assert capsys.readouterr().err == (
            "terrace: unexpected ZeroDivisionError: integer division or modulo by zero; "
            "`terrace --debug …` prints the full trace\n"
        )

    def test_is_raised_when_debugging(self, serves: Callable[[Run], None]) -> None:
        serves(lambda config, read: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            cli.main(["--debug", "serve"])

    def test_an_interrupt_is_quiet(
        self, serves: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run(config: Config, read: object) -> int:
            raise KeyboardInterrupt

        serves(run)
        assert cli.main(["serve"]) == 130
        assert capsys.readouterr().err == ""


def python(*args: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_module_is_the_command() -> None:
    ended = python("-m", "proxy", "--version")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", [["serve", "--help"], ["--version"]])
def test_a_reader_that_went_away_is_no_error_to_tell(command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = python("-m", "proxy", *command, stdout=writer)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_the_entry_point_imports_no_library() -> None:
    """What --version and the trial commands would wait for."""
    slow = ("pydantic", "psycopg", "redis", "aiohttp", "asyncio", "rich", "uvloop")
    ended = python("-c", f"import sys, proxy.cli; print([m for m in {slow} if m in sys.modules])")
    assert ended.stdout == "[]\n"


def test_memory_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: object) -> int:
        raise MemoryError

    monkeypatch.setitem(cli.COMMANDS, "serve", cli.Command("", run))
    assert cli.main(["serve"]) == cli.EXIT_PROBLEM
    assert capsys.readouterr().err.startswith("terrace: not enough memory; lower l1")
