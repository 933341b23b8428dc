"""`eureka dataflux …`: make training data out of raw audio, and harvest raw audio from production.

In: arguments; endpoints, keys and consent are settings. Out: a summary; what was made is in a folder. It does nothing
itself; each module is imported when its command runs.
"""

import asyncio
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from workers.cli_parts import (
    RECORDINGS,
    Checkpoint,
    Device,
    Json,
    Sounds,
    one_line_errors,
    say,
    settings,
    show,
)

app = typer.Typer(
    no_args_is_help=True, help="Training data: questions out of raw audio, raw audio out of production."
)


@app.command("run", short_help="Raw audio to verified questions, by several models.")
def run(
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run; the same one goes on with it.")
    ],
    clips: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help='Lines {"audio": path, "licence": …}; without it scenes are made.',
        ),
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes to make where no list is given.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes and of the options' order.")] = 1000,
    questions: Annotated[int, typer.Option(min=1, max=20, help="At most so many questions per clip.")] = 5,
    answerer: Annotated[
        list[str] | None,
        typer.Option(
            help="A local answerer, several times: question, caption, signal or letters, each with @CHECKPOINT or "
            "the setting's. Default: the first three, unless endpoints answer."
        ),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Clips under way at a time.")] = 4,
    attempts: Annotated[
        int, typer.Option(min=1, max=10, help="Times a model is asked before its replies count as unusable.")
    ] = 3,
    prompts: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of prompts in place of ours.")
    ] = None,
    recordings: Annotated[
        Path, typer.Option(help="Folder of the demo's recordings; music for scenes, if it is there.")
    ] = RECORDINGS,
    sounds: Sounds = None,
    as_json: Json = False,
) -> None:
    """Describe clips, write multiple-choice questions, have several models answer and a judge decide what is kept.

    Writes SFT manifests, a report and pictures into the folder. Every role is an OpenAI-compatible endpoint where
    EUREKA_DATAFLUX_CAPTIONER, …_WRITER, …_ANSWERERS, …_JUDGE say so, else local: made scenes give the captions, our own
    checkpoints answer, rules judge. A run that was stopped goes on where it stopped. Exit status 1 when clips are left.
    """
    from model.dataflux.errors import DataFluxError
    from workers import dataflux

    asked = dataflux.Asked(
        out=out,
        clips=clips,
        scenes=scenes,
        seed=seed,
        questions=questions,
        parallel=parallel,
        attempts=attempts,
        witnesses=tuple(answerer or ()),
        prompts=prompts,
        recordings=recordings,
        sounds=sounds,
    )
    with one_line_errors():
        try:
            done = asyncio.run(dataflux.run(settings(), asked, say))
        except DataFluxError as error:
            sys.exit("eureka: %s" % error)
    show([done], as_json)
    raise typer.Exit(1 if done.left else 0)


@app.command("score", short_help="How many questions of a manifest a checkpoint gets right.")
def score(
    questions: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help="A manifest with choices, such as questions.jsonl."),
    ],
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Answer a manifest's questions with a checkpoint: the share that is right, and that with the audio exchanged.

    Ask a held-out run of another seed before and after training on one: what rises is what the questions have taught.
    """
    from workers import dataflux

    with one_line_errors():
        show([dataflux.score(settings(), questions, checkpoint, device)], as_json)


@app.command("harvest", short_help="Doubtful windows of production as raw audio, where tenants consent.")
def harvest(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the recordings and of their list.")],
    since: Annotated[
        str | None, typer.Option(help="Only what was stored since this time, ISO 8601; UTC if not said.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only what was stored before this time, ISO 8601; UTC if not said.")
    ] = None,
    below: Annotated[
        float, typer.Option(min=0, max=1, help="Transcripts with less confidence than this are doubtful.")
    ] = 0.5,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="At most so many windows per tenant, the most doubtful ones.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Take windows with little confidence, or on which CTC and decoder or two runs disagree, back from the chunk topic.

    Only of tenants that EUREKA_HARVEST_CONSENT names; by default there is none. What may hold personal data is left
    out, no transcript is written, and recordings that have expired, were erased or lost their consent are deleted. The
    list, harvest.jsonl, is what `eureka dataflux run --clips` reads.
    """
    from streams.errors import EurekaError
    from workers import harvest

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asked = harvest.Asked(out, _time(since), _time(until), below, limit)
    with one_line_errors():
        try:
            done = asyncio.run(harvest.take(settings(), asked))
        except EurekaError as error:
            sys.exit("eureka: %s" % error)
    show([done], as_json)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("%r is no ISO 8601 time" % text) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
