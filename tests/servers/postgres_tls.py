"""A PostgreSQL as one would run it: TLS, passwords by SCRAM, a worker role that owns nothing.

In: the operating system's PostgreSQL. Out: `SecurePostgres` with the URLs of its owner (over a socket, for setting up)
and of the worker's role (over TCP). The role has the grants of `eureka db roles`. Invariant: pg_hba.conf has one line
for TCP, `hostssl … scram-sha-256` for the worker's role, so nobody gets in without TLS and a password.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from storage.migrate import upgrade
from storage.roles import worker_grants
from tests.servers import certificates
from tests.servers.kafka import free_ports
from tests.servers.postgres import execute, folder_for_postgres, run_apart
from tests.servers.postgres_own import PostgresServer

HOST = "127.0.0.1"
WORKER = "eureka_worker"
HBA = "local all eureka trust\nhostssl all %s %s/32 scram-sha-256\n" % (WORKER, HOST)


@dataclass(frozen=True)
class SecurePostgres:
    """Where it is; `authority` has signed its certificate, which is for 127.0.0.1 and not for localhost."""

    owner_url: str
    port: int
    password: str
    authority: Path
    other_authority: Path

    def url(
        self,
        *,
        host: str = HOST,
        user: str = WORKER,
        password: str | None = None,
        authority: Path | None = None,
        sslmode: str = "verify-full",
    ) -> str:
        """The URL of the worker's role."""
        word = quote(self.password if password is None else password, safe="")
        options = "sslmode=%s" % sslmode
        if sslmode != "disable":
            options += "&sslrootcert=%s" % quote(str(authority or self.authority), safe="")
        return "postgresql://%s:%s@%s:%d/postgres?%s" % (user, word, host, self.port, options)


@pytest.fixture(scope="session")
def secure_postgres(postgres_binaries: Path) -> Iterator[SecurePostgres]:
    """One for the session, with the schema and the worker's role."""
    with folder_for_postgres() as folder:
        ours, other = (certificates.authority(folder, n) for n in ("our-authority", "other-authority"))
        certificate = certificates.server(folder, "database", ours, ["IP:%s" % HOST])
        (port,) = free_ports(1)
        settings = {
            "listen_addresses": HOST,
            "port": str(port),
            "ssl": "on",
            "ssl_cert_file": str(certificate.certificate),
            "ssl_key_file": str(certificate.key),
        }
        server = PostgresServer(folder / "home", binaries=postgres_binaries, settings=settings, hba=HBA)
        if server.account is not None:
            os.chown(certificate.key, server.account.pw_uid, server.account.pw_gid)
        owner_url = "%s&port=%d" % (server.url, port)
        password = secrets.token_urlsafe(18)
        try:
            server.start()
            run_apart(upgrade(owner_url))
            made = "CREATE ROLE %s LOGIN PASSWORD '%s'" % (WORKER, password)
            run_apart(execute(owner_url, made, *worker_grants(WORKER)))
            yield SecurePostgres(owner_url, port, password, ours.certificate, other.certificate)
        finally:
            server.remove()
