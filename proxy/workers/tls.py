"""Makes the SSLContext of the TLS port from the [tls] options."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from tiers import CertificateError
from tiers.proxy_door import authorities_problem, key_pair_problems

if TYPE_CHECKING:
    from ..config.model import TlsOptions

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {
    "off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED,
}  # fmt: skip
FILES = ("tls.cert_file", "tls.key_file", "tls.client_ca_file")


def content(options: TlsOptions) -> dict[str, bytes]:
    """A digest of the current content of each of FILES; empty if unreadable."""
    digests = dict.fromkeys(FILES, b"")
    names = (options.cert_file, options.key_file, options.client_ca_file)
    for path, name in zip(FILES, names, strict=True):
        with contextlib.suppress(OSError):
            if name:
                digests[path] = hashlib.sha256(Path(name).read_bytes()).digest()
    return digests


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """A context from the current files. Raises CertificateError, naming options and files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[options.min_version]
    context.verify_mode = _CLIENT_AUTH[options.client_auth]
    problems = key_pair_problems(context, "tls.", options.cert_file, options.key_file)
    if options.client_ca_file:
        problem = authorities_problem(context, "tls.client_ca_file", options.client_ca_file)
        problems += [problem] if problem else []
    if problems:
        raise CertificateError(problems)
    return context
