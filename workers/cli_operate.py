"""`eureka deadletters …`, `replay`, `erase`, `retention`, `db roles`: for those who answer for the data.

In: arguments. Out: a line per thing, or one JSON object. It does nothing itself; each module is imported when its
command runs. Invariant: nothing is deleted or changed in a role without an option that says so.
"""

import asyncio
import base64
import getpass
import logging
import os
import sys
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from workers.cli_parts import Json, say, settings, show

if TYPE_CHECKING:
    from storage.deadletters import Wanted
    from workers.erase import Erasure
    from workers.settings import Settings

T = TypeVar("T")
NICE = 10  # of a replay: the machine's scheduler runs live work first
app = typer.Typer(
    no_args_is_help=True, help="Dead letters: list them, look at one, put them back when the cause is gone."
)

Reason = Annotated[str | None, typer.Option(help="Only with this reason, such as decode or poison.")]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Stream = Annotated[str | None, typer.Option(help="Only of this stream.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only since this time, ISO 8601, such as 2026-01-31T08:00; UTC if not said."),
]
Ids = Annotated[list[int] | None, typer.Argument(help="Numbers of dead letters, as `list` shows them.")]
OneTenant = Annotated[str | None, typer.Option(help="The tenant. Default: the setting tenant_default.")]


@app.command("list", short_help="Show the newest dead letters.")
def list_letters(
    reason: Reason = None,
    tenant: Tenant = None,
    stream: Stream = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the newest dead letters: number, time, reason, place in Kafka, whose it is, whether it was put back."""
    from storage import database, deadletters

    wanted = _wanted(reason, tenant, stream, since)

    async def find() -> list[dict[str, Any]]:
        async with database.opened(_url(settings())) as opened, opened.transaction() as connection:
            return await deadletters.find(connection, wanted, limit)

    letters = _run(find())
    if as_json:
        show([_plain(letter) for letter in letters], as_json)
        return
    for letter in letters:
        typer.echo(_line(letter))
    if not letters:
        say("no dead letter")


@app.command("show", short_help="Show one dead letter.")
def show_letter(
    number: Annotated[int, typer.Argument(help="Number of the dead letter, as `list` shows it.")],
    payload: Annotated[
        Path | None,
        typer.Option(help="Write the bytes that were kept into this new file, readable by you only."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every field of one dead letter, and the size of what was kept of its record; never the bytes themselves."""
    from storage import database, deadletters

    async def load() -> list[dict[str, Any]]:
        async with database.opened(_url(settings())) as opened, opened.transaction() as connection:
            return await deadletters.load(connection, [number])

    letters = _run(load())
    if not letters:
        sys.exit("eureka: no dead letter %d" % number)
    letter = letters[0]
    kept = base64.b64decode(letter.pop("payload_b64") or "")
    letter["payload_kept_bytes"] = len(kept)
    if payload is not None:
        _write_new(payload, kept)
        say("%d of %s bytes written to %s" % (len(kept), letter["payload_size_bytes"] or 0, payload))
    if as_json:
        show([_plain(letter)], as_json)
        return
    for name, value in _plain(letter).items():
        typer.echo("%-20s  %s" % (name, "-" if value is None else value))


@app.command("requeue", short_help="Put dead letters back.")
def requeue_letters(
    numbers: Ids = None,
    reason: Reason = None,
    tenant: Tenant = None,
    stream: Stream = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many in one call.")] = 100,
    again: Annotated[bool, typer.Option("--again", help="Also those that were put back before.")] = False,
    actor: Annotated[
        str | None, typer.Option("--by", help="Who does it, for the record. Default: the OS user.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put dead letters back: by number, or the oldest with a reason that were not put back yet.

    A refused record is read from the chunk topic again and sent there once more, if it would be accepted today:
    as it was where nothing of its session is known, else into a session of its own, `SESSION.rNUMBER`. A window that
    the engine refused is analysed again into a run of its own. What is put back is noted and not put back twice
    unless --again says so. Exit status 1 when one of them could not be put back.
    """
    from workers.deadletters import requeue

    if bool(numbers) == bool(reason):
        raise typer.BadParameter("give numbers, or --reason")
    chosen = numbers or _run(_matching(_wanted(reason, tenant, stream, since), limit))
    done = _run(requeue(settings(), chosen, actor=actor or getpass.getuser(), again=again))
    show(done, as_json)
    if not done:
        say("no dead letter to put back")
    raise typer.Exit(1 if any(one.outcome == "refused" for one in done) else 0)


def replay(
    stream: Annotated[str, typer.Option(help="The stream to analyse again.")],
    tenant: OneTenant = None,
    session: Annotated[str | None, typer.Option(help="Only this session of the stream.")] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="Time of the first record, ISO 8601. Default: all that the topic has."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Time of the first record not to read. Default: now.")
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(help="Name of the run; the same name goes on where it stopped. Default: the time."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Analyse history again from Kafka, beside live traffic, into rows and messages with a run id of their own.

    It runs at low priority with an engine process of its own, and touches no live progress. Windows are cut as the
    worker cuts them; a session that began before --from is cut from there. The same run id twice adds nothing.
    It refuses when records of the range are no longer on the topic.
    """
    from workers.replay import Asked
    from workers.replay import replay as run

    read = settings()
    os.nice(max(0, NICE - os.nice(0)))  # the engine process takes it on
    asked = Asked(tenant or read.tenant_default, stream, session, _time(begin), _time(end))
    show([_run(run(read, asked, run_id))], as_json)


def erase(
    tenant: Annotated[str, typer.Option(help="The tenant whose data is to be erased.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream of the tenant.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase. Without it nothing is deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Erase a tenant, or a stream of it, from every table, and keep it erased. Without --yes: count only.

    Records on the topics cannot be deleted one by one: it says which topics keep them, and for how long. Those on the
    chunk topic are not analysed again. Every worker loses its partitions by this, ends, and is to be started again by
    its supervisor; records that are sent from now on are new data.
    """
    from storage.erasure import Scope
    from workers.erase import erase as run
    from workers.erase import look

    scope = Scope(tenant, stream)
    done = _run(run(settings(), scope) if yes else look(settings(), scope))
    if as_json:
        show([done], as_json)
    else:
        _tell_erasure(done)


def retention(
    once: Annotated[bool, typer.Option("--once", help="Delete once and end, as for cron.")] = False,
    as_json: Json = False,
) -> None:
    """Delete rows and dead letters that are older than the settings retention_days_… say; by default all are kept.

    Nothing goes that no topic has yet, and no session that lives. Without --once it goes on, every
    retention_interval_s seconds, until SIGTERM or Ctrl-C (exit status 0).
    """
    from workers.retention import ages, clean, clean_until_told
    from workers.settings import unknown_variables

    read = settings()
    for name in unknown_variables(os.environ):
        say("no such setting: %s" % name)
    if not ages(read):
        say("every row is kept for ever: no setting EUREKA_RETENTION_DAYS_… is given")
    if once:
        show([{"deleted": _run(clean(read))}], as_json)
        return
    from workers.telemetry import set_up_logging

    set_up_logging(read.log_level)
    _run(clean_until_told(read))


def roles(
    worker: Annotated[str, typer.Option(help="Name of the role that a worker logs in with; it must exist.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Execute the statements, as the owner of the tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print, or with --apply execute, what a worker's role is granted: no DDL, no DELETE, results only added."""
    from storage import database
    from storage.roles import grant_worker, worker_grants

    async def grant() -> list[str]:
        async with database.opened(_url(settings())) as opened, opened.transaction() as connection:
            return await grant_worker(connection, worker)

    try:
        statements = _run(grant()) if apply else worker_grants(worker)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        show([{"statement": statement, "applied": apply} for statement in statements], as_json)
    else:
        for statement in statements:
            typer.echo(statement + ";")


async def _matching(wanted: "Wanted", limit: int) -> list[int]:
    from storage import database, deadletters

    async with database.opened(_url(settings())) as opened, opened.transaction() as connection:
        return await deadletters.matching(connection, wanted, limit)


def _tell_erasure(done: "Erasure") -> None:
    typer.echo("%s of this %s:" % ("deleted" if done.done else "would be deleted", done.scope))
    for table, rows in done.rows.items():
        typer.echo("  %-14s %d" % (table, rows))
    typer.echo("stays on the topics (no record there can be deleted by itself):")
    for stays in done.stays:
        typer.echo("  %s: %s" % (stays.topic, stays.until))
    if done.nameless_letters:
        typer.echo("%d dead letters name no tenant; they go by age only" % done.nameless_letters)
    if not done.done:
        typer.echo("nothing was deleted; --yes does it")


def _line(letter: Mapping[str, Any]) -> str:
    place = "%s %d %d" % (letter["topic"], letter["partition"], letter["offset"])
    whose = "%s/%s" % (letter["tenant_id"] or "-", letter["stream_id"] or "-")
    back = ""
    if letter["requeued_at"] is not None:
        back = "  (put back %s by %s)" % (
            letter["requeued_at"].isoformat(timespec="seconds"),
            letter["requeued_by"],
        )
    created = letter["created_at"].isoformat(timespec="seconds")
    return "%6d  %s  %-14s %s  %s  %s%s" % (
        letter["id"], created, letter["reason"], place, whose, letter["detail"], back,
    )  # fmt: skip


def _plain(letter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in letter.items()
    }


def _write_new(path: Path, content: bytes) -> None:
    """A file that was not there; nobody else may read what a caller said."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        sys.exit("eureka: %s: %s" % (path, error.strerror))
    with open(number, "wb") as file:
        file.write(content)


def _wanted(reason: str | None, tenant: str | None, stream: str | None, since: str | None) -> "Wanted":
    from storage.deadletters import Wanted

    return Wanted(reason, tenant, stream, _time(since))


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("%r is no ISO 8601 time" % text) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _url(read: "Settings") -> str:
    if read.database_url is None:
        sys.exit("eureka: no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    return read.database_url.get_secret_value()


def _run(work: Coroutine[Any, Any, T]) -> T:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its complaints add nothing to our one line
    return asyncio.run(work)
