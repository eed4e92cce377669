"""Options of TLS, unix socket and limits that do not fit together are told at start."""

import socket
from pathlib import Path

import pytest

import tiers.proxy_door
from proxy.check import check, summary
from proxy.config.load import ConfigError, load
from proxy.config.model import Config
from tests.certificates import Authority
from tiers import L2Options


def problems(*flags: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags)
    return [str(problem).removeprefix("flag --set: ") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("flags", "option", "words"),
    [
        (["tls.port=1"], "tls.port", "tls.cert_file is empty"),
        (["tls.port=7379", "tls.cert_file=x"], "tls.port", "listen.port are both 7379"),
        (["tls.port=7380", "tls.cert_file=x"], "tls.port", "admin.port are both 7380"),
        (
            ["tls.port=1", "tls.cert_file=x", "tls.client_ca_file=y"],
            "tls.client_ca_file",
            "no client is asked for a certificate while tls.client_auth is off",
        ),
        (
            ["tls.port=1", "tls.cert_file=x", "tls.client_auth=required"],
            "tls.client_auth",
            "cannot be verified without tls.client_ca_file",
        ),
        (["tls.min_version=1.1"], "tls.min_version", 'one of "1.2", "1.3" is needed'),
        (["l2.tls_ca_file=x"], "l2.tls_ca_file", "l2.url does not begin with rediss://"),
        (["l2.tls_cert_file=x"], "l2.tls_cert_file", "l2.url does not begin with rediss://"),
        (
            ["l2.url=rediss://h:1", "l2.tls_key_file=x"],
            "l2.tls_key_file",
            "has no certificate",
        ),
        (["listen.unix_socket=/" + "x" * 107], "listen.unix_socket", "108 bytes"),
        (
            ["limits.output_total_bytes=8MiB"],
            "limits.output_total_bytes",
            "raise limits.output_total_bytes",
        ),
    ],
)
def test_what_does_not_fit(flags: list[str], option: str, words: str) -> None:
    (problem,) = problems(*flags)
    assert problem.startswith(f"{option} = ")
    assert words in problem


def test_without_a_tls_port_its_other_options_do_not_matter() -> None:
    load(None, {}, ["tls.cert_file=x", "tls.client_auth=required"])


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    async def check_l2(options: L2Options, **_: object) -> tuple[list[str], list[str]]:
        return [], []

    monkeypatch.setattr(tiers.proxy_door, "check_l2", check_l2)
    return Authority(tmp_path)


def config(*flags: str) -> Config:
    return load(None, {}, ["listen.port=0", "admin.port=0", "tls.port=1", *flags])


async def test_check_names_bad_files(authority: Authority, tmp_path: Path) -> None:
    cert, _ = authority.issue("server")
    _, key = authority.issue("other")
    path = tmp_path / "file"
    path.touch()
    flags = [f"tls.cert_file={cert}", f"tls.key_file={key}", f"listen.unix_socket={path}"]
    found = (await check(config(*flags))).problems
    assert found[-2:] == [
        f"tls.key_file: {key}: is not the key of tls.cert_file, {cert}",
        f"listen.unix_socket = {path}: there is a file that is not a socket; choose another path",
    ]


async def test_check_names_a_busy_port(authority: Authority) -> None:
    cert, key = authority.issue("server")
    files = [f"tls.cert_file={cert}", f"tls.key_file={key}"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (problem,) = (await check(config(*files, f"tls.port={port}"))).problems
    assert problem.startswith(f"tls.port = {port} on 127.0.0.1: ")
    assert problem.endswith("; free it, or set another tls.port (TERRACE_TLS__PORT)")


async def test_the_summary_tells_all_listeners(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("server")
    path = tmp_path / "t.sock"
    secure = config(f"tls.cert_file={cert}", f"tls.key_file={key}", f"listen.unix_socket={path}")
    lines = list(summary(secure, await check(secure)))
    assert lines[:2] == [
        "tls: 127.0.0.1:1 is free, the certificates are valid",
        f"listen: {path} can be created",
    ]
