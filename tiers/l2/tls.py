"""Loads certificate files into an SSLContext, and explains problems with them.

`ssl` names neither the file that it could not read nor which of two files does not fit;
here every problem names the option and the file. `ClientTls` is the client side, for
the connections to Redis; the listener's side is in `proxy.workers.tls`.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence

from ..options import L2Options

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_SOURCE = re.compile(r"^\[[A-Z0-9: _]*\] | ?\(_ssl\.c:\d+\)$")
_REASONS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS on this port",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer accepts none of our TLS versions",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refused (does it want a client certificate?)",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust the issuer of our client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our client certificate has expired",
}


class CertificateError(Exception):
    """Unusable files; the text has one line per problem, and no secrets."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


class _Encrypted(Exception):
    """OpenSSL asked for a passphrase."""


def authorities_problem(context: ssl.SSLContext, option: str, file: str) -> str:
    """Trust the certificates in `file`; return the problem with it, or ""."""
    if problem := _content_problem(option, file, _CERTIFICATE, "a PEM certificate"):
        return problem
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError) as error:
        return f"{option}: {file}: cannot be used: {tls_error_text(error)}"
    return ""


def key_pair_problems(
    context: ssl.SSLContext, group: str, cert_file: str, key_file: str
) -> list[str]:
    """Load the certificate in `cert_file`; return the problems with it or its key."""
    cert_option, key_option = f"{group}cert_file", f"{group}key_file"
    if not key_file:
        key_option, key_file = cert_option, cert_file
    problems = [
        _content_problem(cert_option, cert_file, _CERTIFICATE, "a PEM certificate"),
        _content_problem(key_option, key_file, _KEY, "a PEM private key"),
    ]
    if any(problems):
        return [problem for problem in dict.fromkeys(problems) if problem]
    try:
        # Without a callback OpenSSL would ask on the terminal for the passphrase.
        context.load_cert_chain(cert_file, key_file, password=_refuse_passphrase)
    except _Encrypted:
        return [
            f"{key_option}: {key_file}: is encrypted with a passphrase; write it without one "
            "(openssl pkey -in … -out …) and protect the file"
        ]
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [f"{key_option}: {key_file}: is not the key of {cert_option}, {cert_file}"]
        # OpenSSL does not name the bad file of the two; a trust store takes no keys.
        scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if problem := authorities_problem(scratch, cert_option, cert_file):
            return [problem]
        return [f"{key_option}: {key_file}: cannot be used: {tls_error_text(error)}"]
    except OSError as error:
        return [f"{cert_option}: {cert_file}: cannot be read: {error.strerror}"]
    return []


def _refuse_passphrase() -> str:
    raise _Encrypted


def _content_problem(option: str, file: str, mark: bytes, what: str) -> str:
    try:
        with open(file, "rb") as opened:
            if mark in opened.read():
                return ""
    except OSError as error:
        return f"{option}: {file}: cannot be read: {error.strerror}"
    except ValueError:  # a NUL in the name
        return f"{option}: is not the name of a file"
    return f"{option}: {file}: does not hold {what}"


def tls_error_text(error: BaseException) -> str:
    """A failed handshake in a few words, without OpenSSL's source positions."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return _REASONS.get(error.reason) or error.reason.replace("_", " ").lower()
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _SOURCE.sub("", text)


class ClientTls:
    """TLS for connections to Redis: `context` is created anew after a file changed."""

    def __init__(self, options: L2Options) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._stamp: list[tuple[int, int, int] | None] = []

    def __repr__(self) -> str:
        return f"<ClientTls verify={self._options.tls_verify}>"

    @property
    def shows_certificate(self) -> bool:
        return bool(self._options.tls_cert_file)

    def context(self) -> ssl.SSLContext:
        """The context for a new connection. Raises CertificateError.

        Certificates may be replaced at any time. The context is cached while the files stay
        as they are, since loading the system's authorities takes milliseconds.
        """
        options = self._options
        files = (options.tls_ca_file, options.tls_cert_file, options.tls_key_file)
        stamp = [_stamp(file) for file in files]
        if self._context is None or stamp != self._stamp:
            self._context = self._load()
            self._stamp = stamp
        return self._context

    def _load(self) -> ssl.SSLContext:
        options = self._options
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not options.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        problems: list[str] = []
        if options.tls_ca_file:
            problems.append(authorities_problem(context, "l2.tls_ca_file", options.tls_ca_file))
        else:
            context.load_default_certs()
        if options.tls_cert_file:
            problems += key_pair_problems(
                context, "l2.tls_", options.tls_cert_file, options.tls_key_file
            )
        if any(problems):
            raise CertificateError([problem for problem in problems if problem])
        return context


def _stamp(file: str) -> tuple[int, int, int] | None:
    """A value that changes whenever the file does."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
