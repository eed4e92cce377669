"""PostgreSQL over TLS: `sslmode` and its likes in l3.dsn are libpq's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.ports import free_port
from tests.tiers.postgres_fixture import SUPERUSER, Postgres
from tiers import TierUnavailable
from tiers.options import L3Options
from tiers.pg.connection import Connection
from tiers.pg.pool import LoadPool


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def dsn(authority: Authority) -> Iterator[str]:
    """Of a server with a certificate for "localhost" alone, without an sslmode."""
    server, port = Postgres(), free_port()
    certificate, key = map(server.adopt, authority.issue("postgres", "localhost"))
    try:
        server.start(
            listen_addresses="127.0.0.1", port=str(port),
            ssl="on", ssl_cert_file=certificate, ssl_key_file=key,
        )  # fmt: skip
        yield f"hostaddr=127.0.0.1 port={port} user={SUPERUSER} dbname=postgres"
    finally:
        server.destroy()


async def is_encrypted(dsn: str) -> object:
    """Raises TierUnavailable."""
    pool = LoadPool(L3Options(dsn=dsn, deadline_s=2.0), lambda: 0.0)

    async def ask(connection: Connection) -> object:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        row = await (await connection.execute(query)).fetchone()
        return row[0] if row else None

    await pool.open()
    try:
        return await pool.run(ask, pool.lane("view v"))
    finally:
        await pool.close()


@pytest.mark.parametrize(("mode", "encrypted"), [("disable", False), ("require", True)])
async def test_loads_are_encrypted_as_asked(dsn: str, mode: str, encrypted: bool) -> None:
    assert await is_encrypted(f"{dsn} host=localhost sslmode={mode}") is encrypted


async def test_the_server_is_who_it_should_be(dsn: str, authority: Authority) -> None:
    checked = f"{dsn} sslmode=verify-full sslrootcert={authority.file}"
    assert await is_encrypted(f"{checked} host=localhost") is True
    with pytest.raises(TierUnavailable, match="postgres"):
        await is_encrypted(f"{checked} host=db.example")


async def test_a_server_with_a_strange_certificate_is_not_used(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Authority(tmp_path, "other")
    with pytest.raises(TierUnavailable, match="postgres"):
        await is_encrypted(f"{dsn} host=localhost sslmode=verify-ca sslrootcert={other.file}")
    assert "certificate verify failed" in caplog.text
