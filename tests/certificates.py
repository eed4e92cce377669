"""Certificates made for one test: an authority, and what it signs, as PEM files."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """Signs certificates and writes them below `directory`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._directory = directory
        self.file = str(directory / f"{name}.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str) -> tuple[str, str]:
        """Paths of a certificate and of its key; the same name again replaces both files."""
        leaf = self._ca.issue_cert(*(hosts or ("127.0.0.1", "localhost")), common_name=name)
        cert_file = self._directory / f"{name}.crt"
        key_file = self._directory / f"{name}.key"
        cert_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key_file))
        return str(cert_file), str(key_file)

    def client_context(self, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
        """For a client that trusts this authority alone."""
        context = ssl.create_default_context(cafile=self.file)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context
