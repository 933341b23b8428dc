"""Deletes rows that are older than the settings say, once or again and again.

In: settings. Out: rows deleted per table. It knows no SQL. Invariants: each transaction deletes at most
`retention_batch_rows` rows of a kind, so nobody waits for it for long; what has no age in the settings is kept; asked
to end, it is gone within `stop_limit_s` and leaves no batch half done.
"""

import asyncio
import logging
import signal
from collections import Counter
from contextlib import suppress

from storage import retention
from storage.database import Database, opened
from streams.errors import Unavailable
from workers.exits import Exit, end_within
from workers.settings import Settings

log = logging.getLogger(__name__)


def ages(settings: Settings) -> dict[str, float]:
    """Days per kind of row; a kind that is not there is kept for ever."""
    given = {kind: getattr(settings, "retention_days_" + kind) for kind in retention.KINDS}
    return {kind: days for kind, days in given.items() if days is not None}


async def clean(settings: Settings) -> dict[str, int]:
    """Delete all that is too old; rows per table. Raises Unavailable; what was deleted until then stays deleted."""
    if settings.database_url is None:
        raise Unavailable("no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    deleted = Counter(dict.fromkeys(ages(settings), 0))
    async with opened(settings.database_url) as database:
        for kind, days in ages(settings).items():
            while found := await _batch(database, kind, days, settings.retention_batch_rows):
                deleted.update(found)
    return dict(deleted)


async def clean_until_told(settings: Settings) -> None:
    """`clean` at every interval until SIGTERM or SIGINT; a database that is away is asked again at the next one."""
    cleaning = asyncio.create_task(_clean_for_ever(settings))

    def asked() -> None:
        end_within(settings.stop_limit_s, Exit.UNFINISHED, "asked to end")
        cleaning.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    with suppress(asyncio.CancelledError):
        await cleaning
    log.info("retention stopped")


async def _clean_for_ever(settings: Settings) -> None:
    while True:
        try:
            log.info("rows deleted by age", extra={"rows": await clean(settings)})
        except Unavailable as error:
            log.warning("rows not deleted by age", extra={"reason": str(error)})
        await asyncio.sleep(settings.retention_interval_s)


async def _batch(database: Database, kind: str, days: float, limit: int) -> dict[str, int]:
    """One batch; empty when nothing was found."""
    async with database.transaction() as connection:
        found = await retention.delete_batch(connection, kind, days, limit)
    return {table: rows for table, rows in found.items() if rows}
