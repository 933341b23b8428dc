"""A PostgreSQL as one would run it: TLS only, passwords by SCRAM, a worker role that owns nothing.

In: nothing. Out: `SecurePostgres` with the URLs of its owner (over a socket, for setting up) and of the worker's role
(over TCP). The role is made by deploy/postgres/worker-role.sql. Invariant: over TCP nobody gets in without TLS and a
password.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from storage import embedded
from storage.migrate import upgrade
from tests.servers import certificates
from tests.servers.kafka import RUN, free_ports
from tests.servers.postgres import execute, folder_for_postgres, run_apart

ROLE = RUN.parents[1] / "postgres" / "worker-role.sql"
START_S = 60.0
HBA = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"


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
        host: str = "127.0.0.1",
        password: str | None = None,
        sslmode: str = "verify-full",
        authority: Path | None = None,
    ) -> str:
        """The URL of the worker's role."""
        word = quote(self.password if password is None else password, safe="")
        trusted = quote(str(authority or self.authority), safe="")
        options = "sslmode=%s&sslrootcert=%s" % (sslmode, trusted)
        return "postgresql://eureka_worker:%s@%s:%d/postgres?%s" % (word, host, self.port, options)


@pytest.fixture(scope="session")
def secure_postgres() -> Iterator[SecurePostgres]:
    """One for the session, with the schema and the worker's role."""
    with folder_for_postgres() as folder:
        ours, other = (certificates.authority(folder, n) for n in ("our-authority", "other-authority"))
        server = certificates.server(folder, "database", ours, ["IP:127.0.0.1"])
        (port,) = free_ports(1)
        password = secrets.token_urlsafe(18)
        with _server(folder, server, port) as owner_url:
            run_apart(upgrade(owner_url))
            named = "ALTER ROLE eureka_worker PASSWORD '%s'" % password
            run_apart(execute(owner_url, ROLE.read_text(), named))
            yield SecurePostgres(owner_url, port, password, ours.certificate, other.certificate)


@contextlib.contextmanager
def _server(folder: Path, certificate: certificates.Certificate, port: int) -> Iterator[str]:
    account = embedded._account()
    binaries = embedded._reachable_binaries(account)
    home, data = folder / "home", folder / "home" / "data"
    home.mkdir()
    key = home / "server.key"
    shutil.copyfile(certificate.key, key)
    key.chmod(0o600)
    if account is not None:
        for path in (home, key):
            os.chown(path, account.pw_uid, account.pw_gid)
    embedded._initialise(binaries, data, account)
    (data / "pg_hba.conf").write_text(HBA)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(home),
        "ssl": "on",
        "ssl_cert_file": str(certificate.certificate),
        "ssl_key_file": str(key),
        "fsync": "off",
    }
    words = [word for name, value in options.items() for word in ("-c", "%s=%s" % (name, value))]
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            embedded._as(account, [str(binaries / "postgres"), "-D", str(data), *words]),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd="/",
        )
    try:
        _wait(process, data / "postmaster.pid", log)
        yield "postgresql://%s@/postgres?host=%s&port=%d" % (embedded.DATABASE_USER, home, port)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", pid_file: Path, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return
        time.sleep(0.02)
    raise RuntimeError("PostgreSQL did not start: %s" % log.read_text(errors="replace")[-2000:])
