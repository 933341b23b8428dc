"""What a run leaves for those who train: manifests, and beside them everything that is known of each question.

In: outcomes. Out: files in the run's folder. Knows no model. Invariants: a manifest holds kept questions only, with the
licence of their audio; the files are replaced in one step and are a pure function of the outcomes.

`source` is that of the audio: the data cards of a made scene (`model.train.cards`), what the list of clips says of
others. The prompts' version stands in the report.

- `questions.jsonl`: kept questions as training samples (`model.train.manifest`); `hard.jsonl`: those of them that only
  one model got right.
- `captions.jsonl`: the captions of clips with a kept question and none against the caption.
- `details.jsonl`: every question with its answers, traces, verdict and fate, kept or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.dataflux.outcomes import ClipOutcome, Outcome
from model.dataflux.values import plain
from model.train import manifest
from model.train.manifest import Sample

LANGUAGE = "en"  # of the prompts, and so of questions and captions
CONTENT = "Speech > Content"  # asks what is said; everything else asks how it sounds


def write(folder: Path, clips: Sequence[ClipOutcome]) -> dict[str, int]:
    """Write all files; how many lines each has."""
    kept = [(clip, one) for clip in clips for one in clip.items if one.kept]
    files = {
        "questions": [_question(folder, clip, one) for clip, one in kept],
        "hard": [_question(folder, clip, one) for clip, one in kept if one.hard],
        "captions": [_caption(folder, clip) for clip in clips if _tells(clip)],
    }
    counts = {name: manifest.write(folder / f"{name}.jsonl", samples) for name, samples in files.items()}
    return counts | {"details": _details(folder / "details.jsonl", clips)}


def _question(folder: Path, clip: ClipOutcome, one: Outcome) -> Sample:
    assert clip.origin is not None
    assert one.choice is not None
    return Sample(
        audio=folder.absolute() / clip.origin.audio,
        task="semantic" if one.item.category.startswith(CONTENT) else "paralinguistic",
        prompt=one.item.text,
        answer=one.item.options[one.choice],
        choices=one.item.options,
        language=LANGUAGE,
        licence=clip.origin.licence,
        source=clip.origin.source,
        start=clip.origin.start,
        end=clip.origin.end,
    )


def _caption(folder: Path, clip: ClipOutcome) -> Sample:
    assert clip.origin is not None
    assert clip.caption is not None
    return Sample(
        audio=folder.absolute() / clip.origin.audio,
        task="caption",
        prompt="",
        answer=clip.caption.text,
        language=LANGUAGE,
        licence=clip.origin.licence,
        source=clip.origin.source,
        start=clip.origin.start,
        end=clip.origin.end,
    )


def _tells(clip: ClipOutcome) -> bool:
    fates = [one.fate for one in clip.items]
    return any(one.kept for one in clip.items) and "against the caption" not in fates


def _details(path: Path, clips: Sequence[ClipOutcome]) -> int:
    partial, count = path.with_name(f".{path.name}.{os.getpid()}"), 0
    with partial.open("w", encoding="utf-8") as file:
        for line in _lines(clips):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    os.replace(partial, path)
    return count


def _lines(clips: Sequence[ClipOutcome]) -> Iterator[dict[str, object]]:
    for clip in clips:
        origin = plain(clip.origin) if clip.origin is not None else None
        if clip.discarded is not None:
            yield {"clip": clip.name, "fate": clip.discarded, "origin": origin}
        for one in clip.items:
            yield plain(one) | {"caption": plain(clip.caption), "origin": origin}
