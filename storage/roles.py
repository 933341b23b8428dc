"""What a worker may do in the database, and nothing else: the grants of its role.

In: the name of a role that exists. Out: statements, or their effect. Invariant: no DDL, no DELETE, and of a result
that is written only the mark that it was published may change.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.tables import VERSION_TABLE
from streams.messages import Unavailable

RESULTS = ("transcripts", "captions", "events", "alerts", "dead_letters")
WORKER = {
    "SELECT": ("erased", VERSION_TABLE),
    "SELECT, INSERT": ("lost_ranges", "gaps", "duplicates"),
    "SELECT, INSERT, UPDATE": ("partitions", "streams", "sessions", "progress"),
    "SELECT, INSERT, UPDATE (published_at)": RESULTS,
}


def worker_grants(role: str, schema: str = "public") -> list[str]:
    """The statements that leave `role` with what a worker needs in `schema`, whatever it had there before."""
    name, place = _quoted(role), _quoted(schema)
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {place} FROM {name}",
        f"REVOKE ALL ON SCHEMA {place} FROM {name}",
        f"GRANT USAGE ON SCHEMA {place} TO {name}",
        *[
            f"GRANT {rights} ON {', '.join(f'{place}.{_quoted(table)}' for table in tables)} TO {name}"
            for rights, tables in WORKER.items()
        ],
    ]


async def grant_worker(connection: AsyncConnection, role: str) -> list[str]:
    """Execute `worker_grants` in the schema of our tables. Raises Unavailable when there is no such role."""
    known = text("SELECT rolsuper FROM pg_roles WHERE rolname = :role")
    is_superuser = await connection.scalar(known, {"role": role})
    if is_superuser is None:
        raise Unavailable(f"no role {role}: make it with CREATE ROLE … LOGIN, then run this again")
    if is_superuser:
        raise Unavailable(f"the role {role} is a superuser: no grant can narrow what it may do")
    schema = await connection.scalar(text("SELECT current_schema()"))
    statements = worker_grants(role, str(schema))
    for statement in statements:
        await connection.exec_driver_sql(statement)
    return statements


def _quoted(name: str) -> str:
    """An identifier: GRANT takes no parameters. Raises ValueError for what PostgreSQL cannot have as one."""
    if not name or "\x00" in name or len(name.encode()) > 63:
        raise ValueError("a name has 1 to 63 bytes and no NUL")
    return '"%s"' % name.replace('"', '""')
