"""An operator's way into the database: short transactions on a schema that this program knows.

In: a database URL. Out: transactions whose errors are those of storage.connect. It knows no table. A worker's way is
`storage.sink`.
"""

import contextlib
from collections.abc import AsyncIterator

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage import connect
from storage.migrate import schema_problem
from streams.messages import Unavailable


class Database:
    """Made by `opened`; two connections, so that one transaction may stay open beside another."""

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        self._engine = engine
        self._address = address

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits when the block ends well; any exception rolls back."""
        with connect.translated(self._address):
            async with self._engine.begin() as connection:
                yield connection


@contextlib.asynccontextmanager
async def opened(url: SecretStr | str) -> AsyncIterator[Database]:
    """The database, its schema looked at. Raises Unavailable."""
    address = connect.address(url)
    engine = connect.make_engine(url, pool_size=2)
    try:
        with connect.translated(address):
            problem = await schema_problem(engine)
        if problem is not None:
            raise Unavailable(f"{address}: {problem}")
        yield Database(engine, address)
    finally:
        await engine.dispose()
