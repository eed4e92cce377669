"""Certificate files: each problem names the option and the file; changed files are taken over."""

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.certificates import Authority
from tiers import L2Options
from tiers.l2.tls import (
    CertificateError,
    ClientTls,
    authorities_problem,
    key_pair_problems,
    tls_error_text,
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def pair_problems(cert_file: str, key_file: str) -> list[str]:
    return key_pair_problems(server_context(), "tls.", cert_file, key_file)


def test_a_certificate_and_its_key_fit(authority: Authority) -> None:
    assert pair_problems(*authority.issue("server")) == []


def test_both_may_be_in_one_file(authority: Authority, tmp_path: Path) -> None:
    cert, key = (Path(file).read_text() for file in authority.issue("server"))
    both = tmp_path / "both.pem"
    both.write_text(cert + key)
    assert pair_problems(str(both), "") == []


def test_a_missing_key_in_the_only_file_is_told_as_such(authority: Authority) -> None:
    cert, _ = authority.issue("server")
    assert pair_problems(cert, "") == [f"tls.cert_file: {cert}: does not hold a PEM private key"]


def test_every_unreadable_file_is_named(tmp_path: Path) -> None:
    missing = [str(tmp_path / name) for name in ("a.crt", "a.key")]
    assert pair_problems(*missing) == [
        f"tls.cert_file: {missing[0]}: cannot be read: No such file or directory",
        f"tls.key_file: {missing[1]}: cannot be read: No such file or directory",
    ]


def test_one_missing_file_for_both_is_told_once(tmp_path: Path) -> None:
    assert len(pair_problems(str(tmp_path / "a.pem"), "")) == 1


def test_a_name_with_a_nul_is_no_file() -> None:
    assert pair_problems("a\0b", "")[0] == "tls.cert_file: is not the name of a file"


def test_the_key_of_another_certificate(authority: Authority) -> None:
    cert, _ = authority.issue("server")
    _, key = authority.issue("other")
    assert pair_problems(cert, key) == [
        f"tls.key_file: {key}: is not the key of tls.cert_file, {cert}"
    ]


def test_a_broken_certificate(authority: Authority, tmp_path: Path) -> None:
    _, key = authority.issue("server")
    broken = tmp_path / "broken.crt"
    broken.write_text("-----BEGIN CERTIFICATE-----\nbm90IERFUg==\n-----END CERTIFICATE-----\n")
    (problem,) = pair_problems(str(broken), key)
    assert problem.startswith(f"tls.cert_file: {broken}: cannot be used: ")
    assert "_ssl.c" not in problem


def test_a_broken_key(authority: Authority, tmp_path: Path) -> None:
    cert, _ = authority.issue("server")
    broken = tmp_path / "broken.key"
    broken.write_text("-----BEGIN PRIVATE KEY-----\nbm90IERFUg==\n-----END PRIVATE KEY-----\n")
    (problem,) = pair_problems(cert, str(broken))
    assert problem.startswith(f"tls.key_file: {broken}: cannot be used: ")
    assert "_ssl.c" not in problem


def test_an_encrypted_key_is_refused_instead_of_asked_for(
    authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.issue("server")
    locked = str(tmp_path / "locked.key")
    command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:geheim", "-out", locked]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on the PATH to encrypt a key with")
    (problem,) = pair_problems(cert, locked)
    assert problem.startswith(f"tls.key_file: {locked}: is encrypted with a passphrase")


def test_authorities(authority: Authority, tmp_path: Path) -> None:
    assert authorities_problem(server_context(), "tls.client_ca_file", authority.file) == ""
    empty = tmp_path / "empty.pem"
    empty.touch()
    problem = authorities_problem(server_context(), "tls.client_ca_file", str(empty))
    assert problem == f"tls.client_ca_file: {empty}: does not hold a PEM certificate"


def test_the_words_hide_openssl() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"
    assert tls_error_text(error) == "the peer does not speak TLS on this port"
    error.reason = "SOMETHING_NEW"
    assert tls_error_text(error) == "something new"


# Towards Redis


def test_the_context_is_kept_until_a_file_changes(authority: Authority) -> None:
    cert, key = authority.issue("client")
    tls = ClientTls(L2Options(tls_ca_file=authority.file, tls_cert_file=cert, tls_key_file=key))
    first = tls.context()
    assert tls.context() is first
    authority.issue("client")
    second = tls.context()
    assert second is not first
    os.unlink(cert)
    with pytest.raises(CertificateError, match=r"l2\.tls_cert_file: .*client\.crt: cannot be read"):
        tls.context()
    authority.issue("client")
    assert tls.context() is not second


def test_verification_is_the_default_and_can_be_ended() -> None:
    strict, trusting = (ClientTls(L2Options(tls_verify=v)).context() for v in (True, False))
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (trusting.verify_mode, trusting.check_hostname) == (ssl.CERT_NONE, False)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    tls = ClientTls(L2Options(tls_ca_file=gone, tls_cert_file=gone))
    with pytest.raises(CertificateError) as caught:
        tls.context()
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["l2.tls_ca_file", "l2.tls_cert_file"]
