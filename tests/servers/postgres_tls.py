"""A PostgreSQL behind TLS, as one would run it: a certificate, passwords by SCRAM, a worker role that owns nothing.

In: nothing. Out: `SecurePostgres` with the URLs of its owner (over a socket, for setting up) and of the worker's role
(over TCP). The role has the grants of `eureka db roles`. The build in the PyPI package knows no TLS ("SSL is not
supported by this build"), so a front ends it, as pgbouncer would, and passes the rest on to the server's socket.
Invariant: over TCP nobody gets in without TLS and a password.
"""

import asyncio
import contextlib
import secrets
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from storage.embedded import embedded_postgres
from storage.migrate import upgrade
from storage.roles import worker_grants
from tests.servers import certificates
from tests.servers.postgres import execute, folder_for_postgres, run_apart

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
HBA = "local all eureka trust\nlocal all eureka_worker scram-sha-256\n"


@dataclass(frozen=True)
class SecurePostgres:
    """Where it is; `authority` has signed its certificate, which is for 127.0.0.1 and not for localhost."""

    owner_url: str
    port: int
    password: str
    authority: Path
    other_authority: Path

    def url(
        self, *, host: str = "127.0.0.1", password: str | None = None, authority: Path | None = None
    ) -> str:
        """The URL of the worker's role."""
        word = quote(self.password if password is None else password, safe="")
        trusted = quote(str(authority or self.authority), safe="")
        options = "sslmode=verify-full&sslrootcert=%s" % trusted
        return "postgresql://eureka_worker:%s@%s:%d/postgres?%s" % (word, host, self.port, options)


@pytest.fixture(scope="session")
def secure_postgres() -> Iterator[SecurePostgres]:
    """One for the session, with the schema and the worker's role."""
    with folder_for_postgres() as folder, embedded_postgres(folder / "home", durable=False) as owner_url:
        ours, other = (certificates.authority(folder, n) for n in ("our-authority", "other-authority"))
        server = certificates.server(folder, "database", ours, ["IP:127.0.0.1"])
        password = secrets.token_urlsafe(18)
        run_apart(upgrade(owner_url))
        named = "ALTER ROLE eureka_worker PASSWORD '%s'" % password
        (folder / "home" / "data" / "pg_hba.conf").write_text(HBA)
        made = "CREATE ROLE eureka_worker LOGIN"
        grants = worker_grants("eureka_worker")
        run_apart(execute(owner_url, made, named, *grants, "SELECT pg_reload_conf()"))
        (sockets,) = parse_qs(urlsplit(owner_url).query)["host"]
        with _front(Path(sockets) / ".s.PGSQL.5432", server) as port:
            yield SecurePostgres(owner_url, port, password, ours.certificate, other.certificate)


@contextlib.contextmanager
def _front(socket: Path, certificate: certificates.Certificate) -> Iterator[int]:
    """Listen on loopback; the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tls-front")
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _serve(reader, writer, socket, context)
        writer.close()

    try:
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop).result()
        yield server.sockets[0].getsockname()[1]
        loop.call_soon_threadsafe(server.close)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, socket: Path, context: ssl.SSLContext
) -> None:
    """One connection: nothing but a request for TLS is answered, and only what comes through TLS is passed on."""
    if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
        return
    writer.write(b"S")
    await writer.start_tls(context)
    inner_reader, inner_writer = await asyncio.open_unix_connection(socket)
    try:
        ways = [_pass_on(reader, inner_writer), _pass_on(inner_reader, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        inner_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
