"""`eureka checkpoint …`: is a checkpoint whole, is it as good as the one that runs, and have workers run it.

In: arguments. Out: a report, a gate record, a promotion. It decides nothing: `model.verify` looks, `model.gate` judges,
`workers.checkpoints` keeps the list that workers follow. All of it is imported when a command runs.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli_parts import (
    RECORDINGS,
    Device,
    Json,
    RecordingsFolder,
    Sounds,
    one_line_errors,
    say,
    settings,
    show,
)

if TYPE_CHECKING:
    from model.evaluate.asr import Reference
    from model.gate import Measured
    from workers.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="Checkpoints: verify one, compare two, promote one to the workers."
)

Weights = Annotated[
    Path, typer.Argument(exists=True, help="A .safetensors file or a folder of the released layout.")
]
KNOWN_PROMPTS, FEWEST_WORDS = 10, 6


@app.command(short_help="Is a checkpoint whole, and does it run here?")
def verify(
    path: Weights,
    manifest: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help='Known recordings, {"audio": path, "text": reference}; default: Asterisk prompts.',
        ),
    ] = None,
    max_wer: Annotated[
        float, typer.Option(min=0, max=1, help="Word errors with which those still count as read.")
    ] = 0.5,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Look at a checkpoint part by part, and have it hear silence and a few known recordings.

    Safetensors only; SHA-256 and size; every tensor there and finite; configuration and tokenizer readable; fits this
    version; no word in 36 s of silence; known prompts (ten that were kept out of training) readable within the bound.
    Exit status 0 only when every check is good.
    """
    from model import verify as checking

    chosen = settings()
    with one_line_errors():
        bound = checking.Bound(_known(manifest, recordings), max_wer)
        report = checking.verify(path, bound, device or chosen.device, chosen.trust_remote_code)
    if as_json:
        show([report], as_json)
    else:
        for check in report.checks:
            typer.echo("%-6s  %-14s  %s" % ("ok" if check.ok else "WRONG", check.name, check.detail))
    raise typer.Exit(0 if report.ok else 1)


@app.command(short_help="Is checkpoint B no worse than A? Writes a gate record.")
def compare(
    a: Weights,
    b: Weights,
    manifest: Annotated[
        list[Path],
        typer.Option(exists=True, help='Held-out {"audio": path, "text": reference}; may be given often.'),
    ],
    record: Annotated[
        Path | None, typer.Option(help="Where the gate record goes; default: B with .gate.json after it.")
    ] = None,
    wer_margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much worse words may be. Default: the setting.")
    ] = None,
    scene_margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much worse scenes may be. Default: the setting.")
    ] = None,
    scenes: Annotated[int, typer.Option(min=30, help="How many scenes, balanced over the classes.")] = 100,
    sounds: Sounds = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Run A (what workers run now) and B on the same held-out material and judge B.

    B passes when the worse end of the 95 % interval of each difference is within its margin (word errors on every
    manifest, the scene question, the scene caption) and it hears no word in 20 minutes of non-speech. Figures and
    verdict, with both digests, go into the gate record. Exit status 0 only when B has passed.
    """
    from model import gate
    from workers.evaluate import asterisk_folder

    chosen = settings()
    margins = gate.Margins(
        chosen.gate_wer_margin if wer_margin is None else wer_margin,
        chosen.gate_scene_margin if scene_margin is None else scene_margin,
    )
    with one_line_errors():
        asterisk = asterisk_folder(recordings, say)
        of_a, of_b = (_measure(chosen, p, device, manifest, asterisk, sounds, scenes) for p in (a, b))
        verdict = gate.judge(of_a, of_b, margins)
        made = gate.record(
            of_a,
            of_b,
            margins,
            verdict,
            made_at=_now(),
            program=_program(),
            device=device or chosen.device,
        )
        target = record or record_of(b)
        target.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    summary = {"passed": verdict.passed, "record": str(target), "figures": made["figures"]}
    show([made if as_json else summary], as_json)
    for reason in verdict.reasons:
        say("not passed: %s" % reason)
    raise typer.Exit(0 if verdict.passed else 1)


@app.command(short_help="Have the workers run a checkpoint.")
def promote(
    path: Annotated[
        Path | None,
        typer.Argument(exists=True, help="A .safetensors file or a folder of the released layout."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder of promotions. Default: the setting.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Its gate record; default: PATH with .gate.json after it.")
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="Go back to the checkpoint that was promoted before this one.")
    ] = False,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Without a passed gate; the reason is recorded.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy a checkpoint into the folder of promotions and have workers run it, without dropping a stream.

    It needs a gate record that was passed, of exactly this SHA-256, against what workers run now, with margins no wider
    than the settings. Workers look at the folder every EUREKA_CHECKPOINT_POLL_S and swap by themselves; whether they
    did, `eureka health --json` tells. What is promoted already may be promoted again: workers that had given it up try
    anew.
    """
    from workers import checkpoints

    chosen = settings()
    folder = to or chosen.checkpoints_dir
    if folder is None:
        raise typer.BadParameter("no folder of promotions: set EUREKA_CHECKPOINTS_DIR or give --to")
    if (path is None) != previous:
        raise typer.BadParameter("either a checkpoint or --previous")
    if force is not None and not force.strip():
        raise typer.BadParameter("--force needs a reason")
    if path is None:
        show([checkpoints.go_back(folder)], as_json)
        return
    with one_line_errors():
        show([_promote(chosen, folder, path, record or record_of(path), force)], as_json)


def record_of(path: Path) -> Path:
    """Where the gate record of a checkpoint is looked for."""
    return path.resolve().with_name(path.resolve().name + ".gate.json")


def _promote(chosen: "Settings", folder: Path, path: Path, record: Path, force: str | None) -> Any:
    from model import gate
    from model.verify import digest_of
    from workers import checkpoints

    sha256 = digest_of(path)
    now = checkpoints.promoted(folder)
    if now is not None and now.sha256 == sha256:
        why = "again"
    elif force is not None:
        why = "forced: " + force.strip()
    else:
        why = "gate"
        margins = gate.Margins(chosen.gate_wer_margin, chosen.gate_scene_margin)
        running = now.sha256 if now else digest_of(chosen.checkpoint) if chosen.checkpoint.exists() else None
        found = gate.read_record(record)
        if wrong := gate.objection(found, sha256, running, margins):
            sys.exit("eureka: not promoted: %s" % wrong)
    engine = _open(chosen, path, None, sha256)
    return checkpoints.promote(folder, path, digest_of, sha256, engine.name, engine.version, why)


def _measure(
    chosen: "Settings",
    path: Path,
    device: str | None,
    manifests: list[Path],
    asterisk: Path,
    sounds: Path | None,
    scenes: int,
) -> "Measured":
    from model.evaluate.gate import measure
    from model.verify import digest_of

    sha256 = digest_of(path)
    engine = _open(chosen, path, device, sha256)
    return measure(engine, sha256, manifests, asterisk, sounds, scenes, say)


def _open(chosen: "Settings", path: Path, device: str | None, sha256: str) -> Any:
    """The engine as a worker runs it, of exactly these weights."""
    from model.engine import Engine

    return Engine.open(
        path,
        device=device or chosen.device,
        compile=False,
        half=None if chosen.engine_half else False,
        short_buckets=chosen.engine_short_buckets,
        threads=chosen.engine_threads,
        expected_sha256=sha256,
        trust_remote_code=chosen.trust_remote_code,
    )


def _known(manifest: Path | None, recordings: Path) -> "list[Reference]":
    """A few recordings whose words are known; none where they cannot be had."""
    from model.evaluate import asr
    from workers.evaluate import asterisk_folder
    from workers.recordings import Missing

    if manifest is not None:
        return asr.read_manifest(manifest)
    try:
        prompts = [
            prompt
            for prompt in asr.test_prompts(asterisk_folder(recordings, say))
            if len(prompt.text.split()) >= FEWEST_WORDS
        ]
    except Missing as error:
        say("%s: name recordings of your own with --manifest" % error)
        return []
    return prompts[:: max(1, len(prompts) // KNOWN_PROMPTS)][:KNOWN_PROMPTS]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _program() -> str:
    from importlib.metadata import version

    return version("eureka-stream")
