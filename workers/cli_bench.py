"""`eureka bench …`: measure the speed of a part, or of all of it.

In: arguments. Out: a line per row, or one JSON object. It measures nothing itself; each measurement is imported when
its command runs.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
    no_args_is_help=True, help="Measure speed: of a part, of the engine, of everything at once."
)

Threads = Annotated[int, typer.Option(min=1, help="CPU threads, for every side of a comparison.")]
BENCH_WEIGHTS = Path("build/bench")


@app.command("ingest", short_help="Time everything before the engine, on one core.")
def bench_ingest(
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of audio per codec.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Time parsing, ordering, decoding, VAD and segmenting on one core; webrtcvad alone for comparison."""
    from workers.bench_ingest import run

    show([run(seconds)], as_json)


@app.command("engine", short_help="Time the engine against the authors' way, or against a peer.")
def bench_engine(
    against: Annotated[
        Literal["authors", "faster-whisper"],
        typer.Option(
            help="authors: one request at a time, padded to 30 s, transformers' generate, the same weights. "
            "faster-whisper: base int8, needs the extra `bench`."
        ),
    ] = "authors",
    windows: Annotated[int, typer.Option(min=1, help="How many recordings of 2 to 6 s (authors).")] = 32,
    threads: Threads = 2,
    compile: Annotated[bool, typer.Option("--compile", help="Compile on a CPU too (authors).")] = False,
    short_buckets: Annotated[
        bool,
        typer.Option("--short-buckets", help="No padding to 30 s, for a checkpoint that wants it (authors)."),
    ] = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Audio seconds and tokens per second on real prompts, ours against another's, both measured in this run."""
    from model.bench import engine, peer
    from model.evaluate import asr
    from workers import bench_peer
    from workers.evaluate import asterisk_folder

    path = checkpoint or settings().checkpoint
    on = device or settings().device
    with one_line_errors():
        references = asr.test_prompts(asterisk_folder(recordings, say))
        if against == "faster-whisper":
            ours = settings().model_copy(update={"checkpoint": path, "device": on})
            try:
                show([bench_peer.run(ours, threads, references, BENCH_WEIGHTS)], as_json)
            except peer.Missing as error:
                raise ValueError(str(error)) from None
            return
        audio = [asr.read_audio(reference.audio) for reference in references]
        chosen = [a for a in audio if peer.SHORTEST_S <= len(a) / asr.RATE_HZ <= peer.LONGEST_S][:windows]
        report = engine.run(path, chosen, on, threads, compile=compile or None, short_buckets=short_buckets)
        show([report], as_json)


@app.command("e2e", short_help="Time live streams through everything: Kafka, worker, engine, PostgreSQL.")
def bench_e2e(
    streams: Annotated[
        int, typer.Option(min=1, help="Live streams at once; with --find where to begin.")
    ] = 4,
    find: Annotated[
        bool, typer.Option("--find", help="Search the most that keep p95 under 2 s, nothing piling up.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=5, help="Length of a level; under 40 is a smoke check.")
    ] = 40.0,
    broker: Annotated[
        Literal["embedded", "settings"], typer.Option(help="An own broker, or the one EUREKA_BROKERS names.")
    ] = "embedded",
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Play live streams in real time through everything; latency, backlog, losses, and what gives out first."""
    from workers.bench_e2e import run

    show([run(streams=streams, find=find, seconds=seconds, broker=broker, recordings=recordings)], as_json)


@app.command("roofline", short_help="What a step costs, what the device could do, how near we are.")
def bench_roofline(
    config: Annotated[Literal["nano", "1.7b"], typer.Option(help="Geometry; weights are random.")] = "nano",
    bandwidth: Annotated[
        float | None, typer.Option(help="Bytes per second to assume, such as 3.35e12 for an H100.")
    ] = None,
    context: Annotated[int, typer.Option(min=2, help="Keys per sequence.")] = 500,
    threads: Threads = 1,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """FLOPs and bytes by the configuration, the device's measured ceilings, and the decoder's share of the roof."""
    from model.bench import roofline
    from model.config import CONFIGS

    with one_line_errors():
        on = device or settings().device
        show([roofline.run(CONFIGS[config], on, threads, context, bandwidth)], as_json)


@app.command("growth", short_help="How time and memory grow with windows, length and slots.")
def bench_growth(
    plot: Annotated[Path | None, typer.Option(help="Write a log-log plot to this PNG.")] = None,
    threads: Threads = 1,
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Time and memory against windows in flight, their length and decode slots, with fitted exponents."""
    from model.bench import growth

    with one_line_errors():
        measured = growth.run(checkpoint or settings().checkpoint, device or settings().device, threads)
        if plot is not None:
            growth.plot(measured, plot)
        show([measured], as_json)


@app.command("soak", short_help="Does the engine's memory stay what it was?")
def bench_soak(
    windows: Annotated[int, typer.Option(min=201, help="Windows in all.")] = 2000,
    threads: Threads = 1,
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Resident memory after all windows against that after 200; exit status 1 when it grew by over 5 %."""
    from model.bench import soak

    with one_line_errors():
        report = soak.run(
            checkpoint or settings().checkpoint, windows, device=device or settings().device, threads=threads
        )
    show([report], as_json)
    raise typer.Exit(0 if report.holds else 1)
