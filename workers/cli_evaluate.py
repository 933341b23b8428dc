"""`eureka evaluate …`: measure the model's words, scenes and silence.

In: arguments. Out: one report per command. It measures nothing itself; `workers.evaluate` is imported when a
command runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli_parts import (
    RECORDINGS,
    Checkpoint,
    Device,
    Json,
    RecordingsFolder,
    Sounds,
    one_line_errors,
    say,
    settings,
    show,
)

app = typer.Typer(no_args_is_help=True, help="Measure the model: words, scenes, silence.")


@app.command("asr", short_help="Word error rate on your own recordings.")
def evaluate_asr(
    manifest: Annotated[Path, typer.Option(exists=True, help='Lines {"audio": path, "text": reference}.')],
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Word error rate with the standard English normalisation, and times real time, on your own recordings."""
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        show([evaluate.on_manifest(engine, manifest)], as_json)


@app.command("prompts", short_help="Word error rate on Asterisk prompts kept out of training.")
def evaluate_prompts(
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Word error rate on the real Asterisk prompts whose texts were kept out of training."""
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        asterisk = evaluate.asterisk_folder(recordings, say)
        show([evaluate.on_prompts(engine, asterisk)], as_json)


@app.command("scenes", short_help="Speech, music, tones, noise, silence told apart.")
def evaluate_scenes(
    count: Annotated[int, typer.Option(min=5, help="How many scenes, balanced over the classes.")] = 100,
    sounds: Sounds = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Speech, music, tones, noise and silence told apart on unseen scenes; shuffled, it must be chance."""
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        asterisk = evaluate.asterisk_folder(recordings, say)
        show([evaluate.on_scenes(engine, asterisk, sounds, count)], as_json)


@app.command("nonspeech", short_help="Words invented where nobody speaks.")
def evaluate_nonspeech(
    sounds: Sounds = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Words invented over 20 minutes without speech, with and without the VAD, and the recall on real prompts."""
    from workers import evaluate

    chosen = settings()
    with one_line_errors():
        engine = evaluate.open_engine(chosen, checkpoint, device)
        asterisk = evaluate.asterisk_folder(recordings, say)
        report = evaluate.on_nonspeech(engine, asterisk, sounds, chosen)
    show([report], as_json)
    raise typer.Exit(1 if report["words_per_minute"] or report["end_to_end_words"] else 0)
