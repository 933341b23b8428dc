"""What `eureka evaluate choices|paper|report|examples` run: whole benchmarks, and pages that a person reads.

In: settings, checkpoints, folders of data. Out: a folder with a page, its pictures and its figures for a machine. It
measures nothing itself. Invariant: the judge's key is read from settings alone and is in nothing that is written.
"""

import asyncio
import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model.dataflux.chat import Chat
from model.dataflux.errors import DataFluxError
from model.engine import Engine
from model.evaluate import asr, benchmarks, captions, choices, examples, paper, pictures, report
from model.evaluate.findings import Findings, Sources, measure
from model.evaluate.heard import listen, word_errors
from model.evaluate.report import record
from workers.dataflux import endpoint_of
from workers.evaluate import open_engine
from workers.settings import Settings

Say = Callable[[str], None]
PARALLEL = 8


def judge(settings: Settings) -> benchmarks.Judge | None:
    """The endpoint of EUREKA_EVALUATE_JUDGE as a judge; None where there is none."""
    if settings.evaluate_judge is None:
        return None
    endpoint = endpoint_of(settings.evaluate_judge)

    async def ask(texts: Sequence[str], items: Sequence[choices.Item]) -> list[int | None]:
        async with Chat(endpoint) as chat:
            return await captions.chosen(chat, texts, items, PARALLEL)

    def choose(texts: Sequence[str], items: Sequence[choices.Item]) -> list[int | None]:
        try:
            return asyncio.run(ask(texts, items))
        except DataFluxError as error:
            raise ValueError(f"the judge: {error}") from None

    return choose


def on_choices(
    engine: Engine,
    items_file: Path,
    audio: Path | None,
    predictions: Path | None,
    of_captions: benchmarks.Judge | None,
) -> dict[str, Any]:
    """A multiple-choice benchmark, and its questions answered from captions where there is a judge."""
    items = choices.read(items_file, audio)
    measured, replies = benchmarks.answer(engine, items, items_file.stem)
    if predictions is not None:
        texts = [
            choices.predicted(reply.text, item.choices) for reply, item in zip(replies, items, strict=True)
        ]
        choices.write_predictions(predictions, items, texts)
    found = [] if measured is None else [measured, *benchmarks.by_task(items, replies).values()]
    if of_captions is not None and measured is not None:
        found.append(benchmarks.described(engine, items, of_captions, f"{items_file.stem}, by caption")[0])
    return {
        "model": engine.name,
        "version": engine.version,
        "items": len(items),
        "without_key": sum(item.answer is None for item in items),
        "cut_replies": sum(reply.cut for reply in replies),
        "measures": [record(one) for one in found],
    }


def on_paper(
    engine: Engine, data: Path, out: Path, of_captions: benchmarks.Judge | None, limit: int | None, say: Say
) -> list[dict[str, Any]]:
    """The paper's tables; written to `out` as paper.md and paper.json after each figure."""
    rows: list[paper.Row] = []
    records: list[dict[str, Any]] = []
    for row in paper.run(benchmarks.Run(engine, out, of_captions, limit), data, say):
        rows.append(row)
        records = paper.records(rows)
        (out / "paper.md").write_text(paper.page(rows, engine), encoding="utf-8")
        told = {"engine": f"{engine.name} {engine.version}", "device": engine.device, "rows": records}
        text = json.dumps(told, ensure_ascii=False, indent=1)
        (out / "paper.json").write_text(text + "\n", encoding="utf-8")
    return records


def on_report(
    settings: Settings,
    checkpoints: Sequence[Path],
    device: str | None,
    sources: Sources,
    out: Path,
    say: Say,
) -> dict[str, Any]:
    """One page that compares checkpoints; written to `out` as report.md, report.json and pictures."""
    found: list[Findings] = []
    for path in checkpoints or (settings.checkpoint,):
        name = _free(path.stem or str(path), [one.checkpoint for one in found])
        found.append(measure(open_engine(settings, path, device), name, sources, say))
    out.mkdir(parents=True, exist_ok=True)
    drawn = pictures.draw(out, found)
    made = f"Made on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} by `eureka evaluate report`."
    (out / "report.md").write_text(report.page(found, drawn, made), encoding="utf-8")
    told = json.dumps(report.as_json(found), ensure_ascii=False, indent=1)
    (out / "report.json").write_text(told + "\n", encoding="utf-8")
    return {
        "folder": str(out),
        "checkpoints": len(found),
        "pictures": len(drawn),
        "missing": [text for one in found[:1] for text in one.missing],
        "measures": [{"checkpoint": one.checkpoint} | record(part) for one in found for part in one.measures],
    }


def on_examples(engine: Engine, references: Sequence[asr.Reference], out: Path, count: int) -> dict[str, Any]:
    """The worst recordings of a set, to be listened to; written to `out` as WAV files, index.html, examples.json."""
    heard = listen(engine, references).heard
    wer = word_errors("WER", heard).interval().value
    title = f"What {engine.name} {engine.version} reads worst: of {len(heard)} recordings, {wer:.1f} % WER"
    written = examples.write(out, examples.worst(heard, count), title)
    return {
        "model": engine.name,
        "version": engine.version,
        "folder": str(out),
        "utterances": len(heard),
        "wer": wer / 100,
        "examples": [
            {
                "file": one.file,
                "word_errors": one.word_errors,
                "words": one.words,
                "confidence": one.confidence,
                "reference": one.reference,
                "heard": one.heard,
            }
            for one in written
        ],
    }


def _free(name: str, taken: Sequence[str]) -> str:
    """A name that no other checkpoint of the report has."""
    return (
        name
        if name not in taken
        else next(f"{name} ({n})" for n in range(2, 99) if f"{name} ({n})" not in taken)
    )
