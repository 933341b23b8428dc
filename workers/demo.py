"""`eureka demo`: the whole system at work on three live streams, watched, counted and judged.

In: nothing but the recordings, or files of the user's own. Out: results as they arrive, a summary, an exit
status. It is a client like any other: it sends chunks to Kafka, reads the result topics, and looks into
Postgres only to compare. Invariant: the status is 0 only when everything that was sent is settled, and stands
once in Postgres and once on the topics.
"""

import asyncio
import json
import logging
import queue
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from streams.errors import EurekaError, Unavailable
from workers import demo_store
from workers.cli_output import as_record
from workers.demo_script import Play, compose, own
from workers.demo_servers import Running, running
from workers.demo_tally import Received, SentLog, Stored, Summary, settled, spoken_and_heard, summarise
from workers.demo_view import View, print_summary, view
from workers.recordings import RATE_HZ, Missing, obtain
from workers.send import send_stream
from workers.tail import tail_messages

CHUNK_MS = 100
SETTLE_S = 90.0  # after the last chunk; the engine may lag behind on a busy machine
POLL_S = 0.5
QUIET_LOGGERS = ("kafka", "aiokafka", "alembic", "storage", "workers")


def run_demo(files: Sequence[Path], *, speed: float, as_json: bool, recordings_folder: Path) -> int:
    """Play, watch, judge; return the exit status. Progress goes to standard error when `as_json`."""
    for name in QUIET_LOGGERS:  # the demo tells what matters itself
        logging.getLogger(name).setLevel(logging.CRITICAL)
    console = Console(stderr=as_json)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        with tempfile.TemporaryDirectory(prefix="eureka-plays-") as name:
            folder = Path(name)
            plays = own(files, folder) if files else compose(obtain(recordings_folder, say), folder)
            run_name = "demo-" + uuid.uuid4().hex[:8]
            with running(say, run_name) as run:
                summary = _play(run, plays, speed, as_json, console)
    except (Missing, EurekaError) as error:
        say("the demo cannot go on: %s" % error)
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    if as_json:
        typer.echo(json.dumps({"type": "summary"} | as_record(summary)))
    print_summary(console, summary)
    return 0 if summary.fine else 1


def _play(run: Running, plays: Sequence[Play], speed: float, as_json: bool, console: Console) -> Summary:
    """Send and receive at the same time until everything is settled or nothing more is to be expected."""
    received: list[Received] = []
    arriving: queue.SimpleQueue[Received] = queue.SimpleQueue()
    stop = threading.Event()
    streams = [play.stream_id for play in plays]
    with ThreadPoolExecutor(len(plays) + 1) as threads, view(console, streams, quiet=as_json) as screen:
        try:
            listening = threads.submit(_listen, run, arriving, stop)
            started_s = time.monotonic()
            sending = {play.stream_id: threads.submit(_send, run, play, speed, stop) for play in plays}
            take = _taker(arriving, received, screen, as_json)
            _watch(run, plays, speed, started_s, [listening, *sending.values()], take, screen, received)
            _settle(run, plays, take, received)
        finally:
            stop.set()
        sent = {name: future.result() for name, future in sending.items()}
        status = run.stop_worker()
        listening.result()
        take()
    stored = _stored(run)
    rates = {voice: _word_error_rate(plays, received, voice) for voice in ("prompt", "caller")}
    summary = summarise(plays, sent, received, stored, rates)
    if status != 0:
        summary = replace(summary, problems=(*summary.problems, "the worker ended with status %d" % status))
    return summary


def _watch(
    run: Running,
    plays: Sequence[Play],
    speed: float,
    started_s: float,
    threads: Sequence["Future[Any]"],
    take: Callable[[], None],
    screen: View,
    received: Sequence[Received],
) -> None:
    """Show what arrives until every stream is sent.

    Raises what a thread raised, and Unavailable when the worker has gone.
    """
    length_s = max(play.seconds for play in plays)
    listening, *sending = threads
    while not all(future.done() for future in sending):
        run.check_alive()
        for future in threads:
            if future.done():
                future.result()
        if listening.done():
            raise Unavailable("the consumer of the result topics has stopped")
        take()
        played_s = min(length_s, (time.monotonic() - started_s) * speed)
        screen.progress(played_s, length_s, len(received))
        time.sleep(0.05)


def _settle(
    run: Running, plays: Sequence[Play], take: Callable[[], None], received: Sequence[Received]
) -> None:
    """Wait, with a bound, until the tables and the topics agree on everything that was sent."""
    deadline_s = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline_s:
        run.check_alive()
        take()
        if settled(plays, _stored(run), received):
            return
        time.sleep(POLL_S)


def _stored(run: Running) -> Stored:
    return asyncio.run(demo_store.read(run.database_url, run.name))


def _send(run: Running, play: Play, speed: float, stop: threading.Event) -> SentLog:
    """One stream, chunk by chunk at its pace."""
    ends: list[int] = []
    times_s: list[float] = []

    def sent(end_sample: int, rate_hz: int) -> None:
        ends.append(end_sample * RATE_HZ // rate_hz)
        times_s.append(time.monotonic())

    send_stream(
        run.settings,
        play.path,
        stream_id=play.stream_id,
        content_type=play.content_type,
        chunk_ms=CHUNK_MS,
        roles=play.roles,
        speed=speed,
        on_sent=sent,
        session_id=run.name,
        stop=stop,
    )
    return SentLog(ends, times_s)


def _listen(run: Running, arriving: "queue.SimpleQueue[Received]", stop: threading.Event) -> None:
    """Every message about our sessions, with its time of receipt."""
    for message in tail_messages(run.settings, from_start=True, stop=stop):
        if message.fields.get("session_id") == run.name:
            arriving.put(Received(message.kind, message.ce_id, message.fields, time.monotonic()))


def _taker(
    arriving: "queue.SimpleQueue[Received]", received: list[Received], screen: View, as_json: bool
) -> Callable[[], None]:
    """Moves what has arrived to `received`, and shows it."""

    def take() -> None:
        while not arriving.empty():
            message = arriving.get()
            received.append(message)
            if as_json:
                sys.stdout.write(json.dumps({"type": message.kind} | dict(message.fields)) + "\n")
                sys.stdout.flush()
            screen.show(message)

    return take


def _word_error_rate(plays: Sequence[Play], received: Sequence[Received], voice: str) -> float | None:
    pairs = spoken_and_heard(plays, received, voice)
    if not pairs:
        return None
    from model.evaluate.asr import score
    from model.evaluate.holdout import speakable

    return score([(speakable(text), heard) for text, heard in pairs]).wer
