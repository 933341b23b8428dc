"""The way to the database: engines, bounded retry, and what its errors mean to the rest of the system.

In: a PostgreSQL URL as libpq reads it (sslmode, host lists and sockets included). Out: an SQLAlchemy engine,
and only these errors: Unavailable (connection, resources, locks, time limits: the same call may succeed
later), NotAllowed (the role has no such right), Refused (a row that the schema does not take: a defect).
Invariant: none says more than an address and names of tables and columns; no password, no row, no text of a
transcript.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from streams.messages import NotAllowed, Unavailable

LOG = logging.getLogger(__name__)
CONNECT_S = 5.0
COMMAND_S = 30.0
MAX_PAUSE_S = 5.0
SERVER_SETTINGS = {
    "application_name": "eureka",
    "timezone": "UTC",
    "lock_timeout": "10000",  # ms; a stopped zombie may hold a partition's row …
    "idle_in_transaction_session_timeout": "60000",  # ms; … and the server then ends its transaction
}
# SQLSTATE classes: connection, rollback (deadlock), resources (disk full), operator (shutdown), system (I/O error);
# then: lock timeout, read-only server (a failover), idle in transaction for too long.
TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
TRANSIENT_CODES = ("55P03", "25006", "25P03")
OVERLAP_CODE = "23P01"
NO_RIGHT_CODE = "42501"
T = TypeVar("T")


class Refused(RuntimeError):
    """The schema does not take a row: a defect in the caller. Names the rule, never the values."""


class Overlap(Refused):
    """Two different results claim the same audio of the same channel."""


def secret(url: SecretStr | str) -> str:
    """The URL in the form that the driver reads. Raises Unavailable when it is not a PostgreSQL URL."""
    text = url.get_secret_value() if isinstance(url, SecretStr) else url
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise Unavailable("the database URL does not begin with postgresql://")
    return f"postgresql://{rest}"


def address(url: SecretStr | str) -> str:
    """Host and database of a URL for people, without user and password."""
    try:
        parts = urlsplit(secret(url))
        hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
        named = [(host.hostname, host.port) for host in hosts]
        # An @ behind the hosts is the one that ends a password with a / or a ? in it.
        readable = "@" not in parts.path + parts.fragment + parts.query.partition("=")[0]
    except ValueError:
        readable = False
    if not readable:
        raise Unavailable("the database URL cannot be read (is a character of the password not escaped?)")
    local = parse_qs(parts.query).get("host", ["the local socket"])[0]
    where = ",".join((name or local) + ("" if port is None else f":{port}") for name, port in named)
    return f"PostgreSQL at {where}, database {parts.path.strip('/') or 'by default'}"


def make_engine(url: SecretStr | str, pool_size: int) -> AsyncEngine:
    """An engine that connects on first use; its URL and its errors hold no secret and no values."""
    dsn = secret(url)

    async def connect() -> Any:
        return await asyncpg.connect(
            dsn, timeout=CONNECT_S, command_timeout=COMMAND_S, server_settings=SERVER_SETTINGS
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=COMMAND_S,
        hide_parameters=True,
    )


async def retry(attempt: Callable[[], Awaitable[T]], *, attempts: int, first_pause_s: float) -> T:
    """Call `attempt` up to `attempts` times while it raises Unavailable, with growing pauses."""
    for done in range(1, attempts):
        try:
            return await attempt()
        except Unavailable as error:
            pause_s = min(MAX_PAUSE_S, first_pause_s * 2 ** (done - 1))
            LOG.warning("%s; attempt %d of %d, next in %.1f s", error, done, attempts, pause_s)
            await asyncio.sleep(pause_s)
    return await attempt()


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn the driver's errors into ours. `where` is the address that an Unavailable names."""
    try:
        yield
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        raise _meaning(where, cause or error.orig or error, lost=error.connection_invalidated) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _meaning(where, error, lost=False) from None
    except PoolTimeout:
        raise Unavailable(f"{where}: no connection became free in {COMMAND_S:.0f} s") from None
    except TimeoutError:
        raise Unavailable(f"{where}: no answer in time") from None
    except FileNotFoundError:  # the driver does not say which
        raise Unavailable(
            f"{where}: its socket, or a file of certificates that the URL names, is not there"
        ) from None
    except OSError as error:
        raise Unavailable(f"{where}: {error.strerror or type(error).__name__}") from None


def _meaning(where: str, error: BaseException, *, lost: bool) -> Exception:
    code = getattr(error, "sqlstate", None) or ""
    if code[:2] in ("28", "3D"):  # who asks, and for what: says what to correct, and a later try may succeed
        return Unavailable(f"{where}: {getattr(error, 'message', None) or type(error).__name__}")
    if lost or code[:2] in TRANSIENT_CLASSES or code in TRANSIENT_CODES:
        return Unavailable(f"{where}: {type(error).__name__} {code}".rstrip())
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, asyncpg.DataError):
        return Unavailable(
            f"{where}: {type(error).__name__}"
        )  # closed under our hands, or settings it cannot use
    if code == NO_RIGHT_CODE:
        what = getattr(error, "message", None) or type(error).__name__
        return NotAllowed(f"{what}: the role that the database URL names may not do this; its owner may")
    table, rule = getattr(error, "table_name", None), getattr(error, "constraint_name", None)
    if code == OVERLAP_CODE:
        return Overlap(f"{table}: two results claim the same audio ({rule})")
    column = getattr(error, "column_name", None)
    places = [
        f"{name} {value}" for name, value in (("table", table), ("rule", rule), ("column", column)) if value
    ]
    return Refused(", ".join([f"the database refused a statement: {type(error).__name__} {code}", *places]))
