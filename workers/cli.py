"""The `eureka` command: each subcommand reads settings, calls one function and prints what it returns.

In: arguments and `EUREKA_*` settings. Out: text for people, or with `--json` one JSON object per line on
standard output; logs and progress go to standard error. Exit status: 0 done, 1 the answer is no (something
missing, wrong, unreachable), 2 a wrong call. It knows no Kafka and no SQL. Invariant: nothing heavy is imported
before a command needs it, so `--help` is quick.
"""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workers import cli_bench, cli_checkpoint, cli_dataflux, cli_evaluate, cli_operate
from workers.cli_parts import (
    RECORDINGS,
    Checkpoint,
    Device,
    Json,
    RecordingsFolder,
    one_line_errors,
    say,
    settings,
    show,
)

app = typer.Typer(
    name="eureka",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Audio chunks in on Kafka; transcripts, captions and events out, to Kafka topics and PostgreSQL.\n\n"
    "Try `eureka demo`. Settings come from EUREKA_* variables or a .env file; `eureka doctor` shows them.",
)
topics_app = typer.Typer(
    no_args_is_help=True, help="The Kafka topics: create them, or check that they are right."
)
db_app = typer.Typer(no_args_is_help=True, help="The PostgreSQL schema: bring it up to date, or check it.")
app.add_typer(topics_app, name="topics")
app.add_typer(db_app, name="db")
app.add_typer(cli_evaluate.app, name="evaluate")
app.add_typer(cli_bench.app, name="bench")
app.add_typer(cli_dataflux.app, name="dataflux")
app.add_typer(cli_checkpoint.app, name="checkpoint")
app.add_typer(cli_operate.app, name="deadletters")
app.command(short_help="Analyse history again from Kafka, beside live traffic.")(cli_operate.replay)
app.command(short_help="Erase a tenant or a stream, and keep it erased.")(cli_operate.erase)
app.command(short_help="Delete what is older than the settings say.")(cli_operate.retention)
db_app.command("roles", short_help="What a worker's role is granted.")(cli_operate.roles)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo("eureka-stream %s" % version("eureka-stream"))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Your own recordings in any common format, one stream each; channels stay apart.",
        ),
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, help="Times real time; 1 is live.")] = 1.0,
    as_json: Json = False,
    recordings: RecordingsFolder = RECORDINGS,
) -> None:
    """Show the whole system at work, nothing set up before.

    Starts an embedded broker, an embedded PostgreSQL and one worker with its engine process, plays three live
    streams at once at real-time pace, shows results as they arrive, and ends with a summary. Where
    EUREKA_DATABASE_URL or DATABASE_URL names a database, that one is used and its schema brought up to date.
    Exit status 0 only when nothing is missing, duplicated or unpublished. With --json: one line per
    result, a last line of type "summary".
    """
    from workers.demo import run_demo

    raise typer.Exit(run_demo(files or [], speed=speed, as_json=as_json, recordings_folder=recordings))


@app.command(short_help="Run one worker.")
def worker() -> None:
    """Run one worker: read audio.chunks, transcribe, write PostgreSQL and the result topics.

    Runs until SIGTERM or Ctrl-C, then finishes what is in flight within the grace (EUREKA_DRAIN_GRACE_S). Any
    number of workers may run in one group; partitions are shared out among them. A crash loses nothing: start it
    again. Exit status: 0 asked to end, 1 a defect or wrong settings, 3 something is not to be had, 4 it stood still,
    5 the grace was over, 6 another worker took its place.
    """
    from workers.service import run_worker

    raise typer.Exit(run_worker(settings()))


@app.command(short_help="Ask a running worker whether it is ready.")
def health(
    live: Annotated[
        bool, typer.Option("--live", help="Ask only whether it gets on by itself, whatever it waits for.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask the worker at EUREKA_HEALTH_HOST and EUREKA_HEALTH_PORT whether it is ready, and why not.

    Exit status 0 for yes, 1 for no and where nobody answers.
    """
    from workers.ask import ask_health

    answer = ask_health(settings(), "live" if live else "ready")
    if as_json:
        show([answer], as_json)
    else:
        typer.echo("yes" if answer["ok"] else "no: %s" % "; ".join(answer["reasons"]))
    raise typer.Exit(0 if answer["ok"] else 1)


@app.command()
def send(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Audio files in any common format, one stream each, all at once.",
        ),
    ],
    stream_id: Annotated[
        str | None,
        typer.Option(help="Name of the stream; default: the file's name. Several files: a prefix."),
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, help="Times real time; 1 is live.")] = 1.0,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as the broker takes it.")] = False,
    content_type: Annotated[
        str, typer.Option(help="audio/x-raw (S16LE), audio/L16, audio/PCMU, audio/flac, audio/ogg, audio/wav")
    ] = "audio/flac",
    chunk_ms: Annotated[int, typer.Option(min=20, max=10_000, help="Length of a chunk.")] = 100,
    roles: Annotated[str | None, typer.Option(help="One per channel, such as agent,customer.")] = None,
    as_json: Json = False,
) -> None:
    """Send audio files as streams of chunks, at live pace or faster.

    The chunks go to the topic audio.chunks; a worker must be running to make something of them.
    """
    from workers.send import send_files

    try:
        reports = send_files(
            settings(),
            files,
            stream_id=stream_id,
            speed=None if fast else speed,
            content_type=content_type,
            chunk_ms=chunk_ms,
            roles=tuple(roles.split(",")) if roles else None,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    show(reports, as_json)


@app.command()
def tail(
    kind: Annotated[
        list[str] | None,
        typer.Option(help="transcript, caption, event, alert or deadletter; may be given often."),
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Everything the topics hold, not only new.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")] = None,
    as_json: Json = False,
) -> None:
    """Show results as they arrive on the topics, until Ctrl-C."""
    from workers.tail import tail_messages

    try:
        messages = tail_messages(settings(), kinds=kind or None, from_start=from_start, limit=limit)
        show((message.record() for message in messages), as_json)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command(short_help="Transcribe files here and now: no broker, no database.")
def transcribe(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Audio files in any common format.")
    ],
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Transcribe files here and now: the worker's segmenter and engine, no broker, no database.

    The stream id of a result is the file's name, with a number where an earlier file is called the same.
    """
    from workers.transcribe import transcribe_files

    with one_line_errors():
        results = transcribe_files(files, settings(), checkpoint=checkpoint, device=device)
        if not show(results, as_json):
            say("no result: too little audio for a window")


@topics_app.command("create", short_help="Create the topics that are missing.")
def topics_create(as_json: Json = False) -> None:
    """Create the topics that are missing, with the settings' partition counts; existing ones are left as they are."""
    from workers.kafka_admin import create_topics

    _quiet()
    created = _run(create_topics(settings()))
    if not created and not as_json:
        typer.echo("nothing to create: every topic is there")
        return
    show([{"created": name} for name in created] or [{"created": None}], as_json)


@topics_app.command("check", short_help="Compare the topics with the settings.")
def topics_check(as_json: Json = False) -> None:
    """Compare the topics with the settings: missing ones, changed partition counts, chunks too large to get in."""
    from workers.kafka_admin import check_topics

    _quiet()
    states = _run(check_topics(settings()))
    show(states, as_json)
    raise typer.Exit(1 if any(state.problem for state in states) else 0)


@db_app.command("upgrade", short_help="Bring the schema up to date.")
def db_upgrade(as_json: Json = False) -> None:
    """Bring the schema up to date (the database must exist; EUREKA_DATABASE_URL or DATABASE_URL names it)."""
    from storage import migrate

    _run(migrate.upgrade(_database_url()))
    if as_json:
        show([{"upgraded": True}], as_json)
    else:
        typer.echo("the schema is up to date")


@db_app.command("check", short_help="Say what is wrong with the database.")
def db_check(as_json: Json = False) -> None:
    """Say what is wrong with the database: schema, version, extensions, rows that never reached their topic."""
    from storage import migrate

    problems = _run(migrate.check(_database_url()))
    if not problems and not as_json:
        typer.echo("ok: reachable, schema up to date")
    else:
        show([{"problem": problem} for problem in problems] or [{"problem": None}], as_json)
    raise typer.Exit(1 if problems else 0)


@app.command(short_help="Say what is configured, reachable and missing.")
def doctor(as_json: Json = False) -> None:
    """Say what is configured, reachable, compiled, on which device, and what is missing."""
    from workers.doctor import examine

    _quiet()
    findings = _run(examine())
    if as_json:
        show(findings, as_json)
    else:
        for finding in findings:
            typer.echo("%-8s  %-22s  %s" % (finding.state, finding.name, finding.detail))
    raise typer.Exit(1 if any(finding.state == "missing" for finding in findings) else 0)


def main() -> None:
    """Entry point of the `eureka` script. Expected failures end with one line on standard error and status 1."""
    from streams.errors import EurekaError
    from workers.settings import SettingsError

    try:
        app()
    except (EurekaError, SettingsError) as error:
        sys.exit("eureka: %s" % error)


def _quiet() -> None:
    """A library's complaints about an unreachable broker add nothing to the one line that we print."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _database_url() -> str:
    url = settings().database_url
    if url is None:
        sys.exit("eureka: no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    return url.get_secret_value()


def _run(awaitable: Any) -> Any:
    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


if __name__ == "__main__":
    main()
