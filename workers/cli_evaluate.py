"""`eureka evaluate …`: measure the model's words, times, sounds, silence, answers; compare checkpoints.

In: arguments. Out: one report per command. It measures nothing itself; `workers.evaluate` is imported when a
command runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

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

app = typer.Typer(
    no_args_is_help=True,
    help="Measure the model: words, times, sounds, silence, benchmarks, the paper's tables.",
)

Digits = Annotated[
    Path,
    typer.Option(exists=True, file_okay=False, help="Single spoken digits, DIGIT_SPEAKER_TAKE.flac (FSDD)."),
]
MaybeDigits = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Single spoken digits, DIGIT_SPEAKER_TAKE.flac (FSDD): a man's voice.",
    ),
]


By = Literal["joint", "decoder", "ctc"]


@app.command("asr", short_help="Word error rate on your own recordings, or on a public corpus.")
def evaluate_asr(
    manifest: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help='Lines {"audio": path, "text": reference}; several times.'),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="A public corpus instead: librispeech, fleurs, aishell2, wenetspeech-net, wenetspeech-meeting, "
            "sphinx (Debian's pocketsphinx-testdata)."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(exists=True, help="Where the corpus is: its split's folder, or its tsv or json file."),
    ] = None,
    by: Annotated[
        By | None,
        typer.Option(help="joint (CTC head and decoder, as the service writes), decoder, or ctc alone."),
    ] = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Word and character error rate with the standard normalisation, calibration of confidences, times real time."""
    from workers import evaluate

    if bool(manifest) == (corpus is not None) or (corpus is None) != (folder is None):
        sys.exit("eureka: either --manifest, or --corpus and --folder")
    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        if corpus is not None and folder is not None:
            show([evaluate.on_corpus(engine, corpus, folder, by)], as_json)
        for path in manifest or ():
            show([{"manifest": str(path)} | evaluate.on_manifest(engine, path, by)], as_json)


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


@app.command("digits", short_help="Digit strings of a speaker kept out of training.")
def evaluate_digits(
    digits: Digits,
    count: Annotated[int, typer.Option(min=1, help="How many strings of 2 to 8 digits.")] = 60,
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Real spoken digits of a held-out speaker: word errors by decoder, CTC head and both; word times."""
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        show([evaluate.on_digits(engine, digits, count)], as_json)


@app.command("times", short_help="Word times against a reference.")
def evaluate_times(
    manifest: Annotated[
        Path | None,
        typer.Option(exists=True, help='Lines {"audio", "text", "words": [[word, start_ms, end_ms], …]}.'),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            help="Take the times of an independent aligner (extra `evaluate`: pocketsphinx) instead."
        ),
    ] = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Median difference between the engine's word times and those of a manifest or of an independent aligner.

    Without a manifest: the Asterisk prompts whose texts were kept out of training, aligned.
    """
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        asterisk = evaluate.asterisk_folder(recordings, say) if manifest is None else None
        show([evaluate.on_times(engine, manifest, asterisk, align)], as_json)


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


@app.command("events", short_help="Sound events of a fold kept out of training.")
def evaluate_events(
    sounds: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="Recorded sound events, CLASS/FOLD-….ogg (ESC-10)."),
    ],
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Which sound is it: accuracy and confusions on the held-out fold of recorded sound events."""
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        show([evaluate.on_events(engine, sounds)], as_json)


@app.command("voices", short_help="Voice, line, background, pace: confusion matrices.")
def evaluate_voices(
    manifest: Annotated[
        Path | None,
        typer.Option(exists=True, help='Your own: lines {"audio", "text", "labels": {question: choice}}.'),
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Without a manifest: how many windows are made.")] = 100,
    digits: MaybeDigits = None,
    sounds: Sounds = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Paralinguistic questions on held-out voices, or on your own labelled recordings: confusion matrices."""
    from workers import evaluate

    with one_line_errors():
        engine = evaluate.open_engine(settings(), checkpoint, device)
        asterisk = None if manifest is not None else evaluate.asterisk_folder(recordings, say)
        show([evaluate.on_voices(engine, asterisk, sounds, digits, manifest, count)], as_json)


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


@app.command("choices", short_help="A multiple-choice benchmark in the JSON of MMAU or MMAR.")
def evaluate_choices(
    items: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The benchmark's JSON file.")],
    audio: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Where its paths start, if not beside it."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the file that the benchmark's own scorer takes."),
    ] = None,
    captions: Annotated[
        bool, typer.Option(help="Also answer from captions alone, by the judge of EUREKA_EVALUATE_JUDGE.")
    ] = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Multiple-choice accuracy by MMAU's own rule, by task; and how well captions alone answer the questions."""
    from workers import evaluate, evaluate_pages

    chosen = settings()
    with one_line_errors():
        judge = evaluate_pages.judge(chosen) if captions else None
        if captions and judge is None:
            raise ValueError("no judge: set EUREKA_EVALUATE_JUDGE")
        engine = evaluate.open_engine(chosen, checkpoint, device)
        show([evaluate_pages.on_choices(engine, items, audio, predictions, judge)], as_json)


@app.command("paper", short_help="The paper's tables on every public set under a folder.")
def evaluate_paper(
    data: Annotated[
        Path,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Holds LibriSpeech, fleurs, AISHELL-2, WenetSpeech, voicebench, MMAU, MMAR, as far as they are there.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder of paper.md, paper.json, what was heard and replied."),
    ] = Path("build/evaluation/paper"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many items of each set: to try it, not to report it.")
    ] = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure every public set of the paper that is there, say which are missing, and write both beside its figures."""
    from workers import evaluate, evaluate_pages

    chosen = settings()
    with one_line_errors():
        engine = evaluate.open_engine(chosen, checkpoint, device)
        rows = evaluate_pages.on_paper(engine, data, out, evaluate_pages.judge(chosen), limit, say)
        show(rows, as_json)
    say("written: %s" % (out / "paper.md"))


@app.command("report", short_help="One page with pictures that compares checkpoints.")
def evaluate_report(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Weights, several times: the first is compared with. Default: the setting."),
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help='Held-out speech, lines {"audio", "text"}; several times.'),
    ] = None,
    digits: MaybeDigits = None,
    sounds: Sounds = None,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of report.md, its pictures and report.json.")
    ] = Path("build/evaluation"),
    windows: Annotated[
        int, typer.Option(min=5, help="How many scenes, and windows of held-out voices.")
    ] = 100,
    nonspeech: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Share of the 21 minutes of non-speech that is listened to."),
    ] = 1.0,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """Error rates, calibration, confusions, invented words and worst utterances of checkpoints, side by side."""
    from model.evaluate.findings import Sources
    from workers import evaluate, evaluate_pages

    with one_line_errors():
        sources = Sources(
            asterisk=evaluate.asterisk_folder(recordings, say),
            sounds=sounds,
            takes=digits,
            manifests=tuple(manifest or ()),
            nonspeech_part=nonspeech,
            windows=windows,
        )
        done = evaluate_pages.on_report(settings(), checkpoint or (), device, sources, out, say)
        show([done], as_json)
    say("written: %s" % (out / "report.md"))


@app.command("examples", short_help="The worst recordings of a set, to be listened to.")
def evaluate_examples(
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help='Lines {"audio", "text"}; several times. Default: the held-out Asterisk prompts.',
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=999, help="How many recordings.")] = 20,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of WAV files, index.html and examples.json.")
    ] = Path("build/evaluation/examples"),
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """The recordings with the most word errors as WAV files, and a page to play them with the differences marked."""
    from model.evaluate import asr
    from workers import evaluate, evaluate_pages

    with one_line_errors():
        references = [one for path in manifest or () for one in asr.read_manifest(path)]
        if not references:
            references = asr.test_prompts(evaluate.asterisk_folder(recordings, say))
        engine = evaluate.open_engine(settings(), checkpoint, device)
        show([evaluate_pages.on_examples(engine, references, out, count)], as_json)
    say("written: %s" % (out / "index.html"))


@app.command("card", short_help="Every evaluation of the model card in a row; goes on where it stopped.")
def evaluate_card(
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help='Held-out speech, lines {"audio", "text"}; several times. The card has the two of '
            "`python -m model.train test-set`.",
        ),
    ] = None,
    sounds: Sounds = None,
    digits: MaybeDigits = None,
    sphinx: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Debian's pocketsphinx-testdata: its test/data."),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these, several times: prompts, scenes, nonspeech, times, … or `asr MANIFEST`."
        ),
    ] = None,
    again: Annotated[bool, typer.Option(help="Measure what is measured already once more.")] = False,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of a JSON file for each step, and card.md.")
    ] = Path("build/evaluation/card"),
    windows: Annotated[
        int, typer.Option(min=5, help="How many scenes, and windows of held-out voices.")
    ] = 100,
    checkpoint: Checkpoint = None,
    device: Device = None,
    recordings: RecordingsFolder = RECORDINGS,
    as_json: Json = False,
) -> None:
    """All figures of the model card as its table has them, each with its command; a step that is made is kept.

    A step counts as made for the same weights, precision and inputs. Exit status 1 where a step could not be made.
    """
    from model.evaluate.card import rows
    from workers import evaluate_card as card

    chosen = settings()
    with one_line_errors():
        data = card.Data(recordings, tuple(manifest or ()), sounds, digits, sphinx, windows)
        todo = card.steps(data, chosen, say)
        strange = sorted(set(step or ()) - {one.name for one in todo})
        if strange:
            raise ValueError(
                f"no step {', '.join(strange)} with these data: {', '.join(one.name for one in todo)}"
            )
        todo = [one for one in todo if not step or one.name in step]
        measured = card.on_card(chosen, checkpoint or chosen.checkpoint, device, todo, out, again, say)
        if as_json:
            show(measured, as_json)
        else:
            typer.echo("\n".join(rows(measured)))
    say("written: %s" % (out / "card.md"))
    raise typer.Exit(1 if any(one.report is None for one in measured) else 0)
