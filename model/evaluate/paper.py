"""The tables of arXiv 2602.13954 again: every public set that is under a folder, beside the paper's figures.

In: an engine, a folder of unpacked sets, perhaps a judge. Out: a `Row` for each figure of the paper. Knows no command
line. Invariant: every figure of the paper has its row, also when its set is not there: then the row says where it was
looked for.

    FOLDER/LibriSpeech/{test-clean,test-other}/SPEAKER/CHAPTER/…
    FOLDER/fleurs/en_us/test.tsv and audio/test/*.wav          (the path in its own archive, data/en_us, does too)
    FOLDER/AISHELL-2/iOS/test/{wav.scp,trans.txt}
    FOLDER/WenetSpeech/WenetSpeech.json and audio/…
    FOLDER/voicebench/{mmsu,openbookqa,advbench,ifeval}/*.parquet (or *.jsonl)
    FOLDER/MMAU/mmau-test-mini.json and test-mini-audios/
    FOLDER/MMAR/MMAR-meta.json and audio/

What the paper does not tell, and what is taken here: MMSU and OpenBookQA are those of VoiceBench, and the figure of
IFEval is the mean of its four accuracies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.engine import Engine
from model.evaluate import benchmarks, choices, corpora
from model.evaluate.asr import Reference
from model.evaluate.benchmarks import Run
from model.evaluate.measures import Better, Measure

PAPER = "arXiv 2602.13954"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, for Eureka-Audio-Instruct, in per cent."""

    name: str
    metric: str
    paper: float
    better: Better
    places: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """`missing` says why there is no measure."""

    figure: Figure
    measure: Measure | None
    missing: str = ""


def _wer(name: str, paper: float, *places: str) -> Figure:
    return Figure(name, "WER", paper, "lower", places)


def _cer(name: str, paper: float, *places: str) -> Figure:
    return Figure(name, "CER", paper, "lower", places)


def _score(name: str, metric: str, paper: float, *places: str) -> Figure:
    return Figure(name, metric, paper, "higher", places)


SPEECH: dict[Figure, Callable[[Path], Iterator[Reference]]] = {
    _wer("LibriSpeech test-clean", 1.46, "LibriSpeech/test-clean", "test-clean"): corpora.librispeech,
    _wer("LibriSpeech test-other", 3.24, "LibriSpeech/test-other", "test-other"): corpora.librispeech,
    _wer("Fleurs en", 5.39, "fleurs/en_us/test.tsv", "fleurs/data/en_us/test.tsv"): corpora.fleurs,
    _cer("AISHELL-2 iOS", 3.10, "AISHELL-2/iOS/test", "AISHELL-DEV-TEST-SET/iOS/test"): corpora.aishell2,
    _cer("WenetSpeech meeting", 9.14, "WenetSpeech/WenetSpeech.json"): lambda path: corpora.wenetspeech(
        path, "TEST_MEETING"
    ),
    _cer("WenetSpeech net", 7.55, "WenetSpeech/WenetSpeech.json"): lambda path: corpora.wenetspeech(
        path, "TEST_NET"
    ),
}
SPOKEN: dict[Figure, Callable[[Run, str, Path], Measure]] = {
    _score("MMSU", "accuracy", 55.63, "voicebench/mmsu"): benchmarks.letters,
    _score("OpenBookQA", "accuracy", 69.23, "voicebench/openbookqa"): benchmarks.letters,
    _score("AdvBench", "refusals", 99.81, "voicebench/advbench"): benchmarks.refusals,
    _score("IFEval", "mean accuracy", 53.21, "voicebench/ifeval"): benchmarks.instructions,
}
CHOICES = {
    _score("MMAU test-mini", "accuracy", 74.67, "MMAU/mmau-test-mini.json"): _score(
        "MMAU test-mini, by caption", "accuracy", 52.96, "MMAU/mmau-test-mini.json"
    ),
    _score("MMAR", "accuracy", 56.20, "MMAR/MMAR-meta.json", "MMAR/MMAR-meta.jsonl"): _score(
        "MMAR, by caption", "accuracy", 41.70, "MMAR/MMAR-meta.json", "MMAR/MMAR-meta.jsonl"
    ),
}


def run(setup: Run, data: Path, say: Say) -> Iterator[Row]:
    """A row for each figure, as they are measured. Raises ValueError for a set that is there and cannot be read."""
    setup.out.mkdir(parents=True, exist_ok=True)
    for figure, reader in SPEECH.items():
        if (path := _there(data, figure, say)) is None:
            yield _missing(figure)
        else:
            measured = benchmarks.speech(setup, figure.name, reader(path))
            yield Row(figure, measured, "" if measured else "the set holds no utterance")
    for figure, of in SPOKEN.items():
        path = _there(data, figure, say)
        if path is None:
            yield _missing(figure)
        else:
            measured = of(setup, figure.name, path)
            yield Row(figure, measured if measured.items else None, measured.note)
    for figure, captioned in CHOICES.items():
        if (path := _there(data, figure, say)) is None:
            yield from (_missing(figure), _missing(captioned))
            continue
        items = list(setup.few(choices.read(path)))
        measured = benchmarks.multiple(setup, figure.name, items)
        yield Row(figure, measured, "" if measured else "its answers are kept back")
        measured = benchmarks.by_caption(setup, captioned.name, items)
        why = "no judge: set EUREKA_EVALUATE_JUDGE" if setup.judge is None else "its answers are kept back"
        yield Row(captioned, measured, "" if measured else why)


def _there(data: Path, figure: Figure, say: Say) -> Path | None:
    path = next((data / place for place in figure.places if (data / place).exists()), None)
    if path is not None:
        say(f"{figure.name}: {path}")
    return path


def _missing(figure: Figure) -> Row:
    return Row(figure, None, "not there: " + " or ".join(figure.places))


def page(rows: Sequence[Row], engine: Engine) -> str:
    """The rows as a Markdown table beside the paper's figures."""
    lines = [
        f"# {engine.name} {engine.version} beside Eureka-Audio-Instruct as {PAPER} reports it",
        "",
        "| set | metric | measured, 95 % interval | items | the paper | difference | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figure = row.figure
        start = f"| {figure.name} | {figure.metric}, % |"
        if row.measure is None:
            lines.append(f"{start} — | — | {figure.paper:.2f} | — | {row.missing} |")
            continue
        value = row.measure.interval()
        lines.append(
            f"{start} {value.value:.2f} ({value.low:.2f} – {value.high:.2f}) | {row.measure.items} | "
            f"{figure.paper:.2f} | {value.value - figure.paper:+.2f} | {row.measure.note} |"
        )
    return "\n".join(lines) + "\n"


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a machine."""
    found = []
    for row in rows:
        value = None if row.measure is None else row.measure.interval()
        found.append(
            {
                "set": row.figure.name,
                "metric": row.figure.metric,
                "paper": row.figure.paper,
                "value": None if value is None else round(value.value, 4),
                "low": None if value is None else round(value.low, 4),
                "high": None if value is None else round(value.high, 4),
                "items": 0 if row.measure is None else row.measure.items,
                "note": row.missing if row.measure is None else row.measure.note,
            }
        )
    return found
