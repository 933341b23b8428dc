"""The recordings that a checkpoint reads worst, to be listened to.

In: what was heard of references. Out: a folder of WAV files with `index.html` (a player, both texts with their
differences marked, confidence, word error, source) and the same as `examples.json`. Knows no engine. Invariant: the
worst come first by word errors per word, then by word errors, then in the order of the set; a page is of its folder
alone: it reaches for nothing outside it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer

from model.dataflux.chat import wav_bytes
from model.evaluate.asr import read_reference
from model.evaluate.heard import Heard
from model.evaluate.text import Rule, tokens

STYLE = (
    "body{font:16px/1.5 sans-serif;margin:2em auto;max-width:52em;padding:0 1em}"
    "section{border-top:1px solid #ccc;padding:.8em 0}audio{width:100%}"
    "del{background:#fdd}ins{background:#dfd;text-decoration:none}small{color:#555}"
)


@dataclass(frozen=True)
class Part:
    """Words that are equal in both texts, or what was said (perhaps nothing) where something else was heard."""

    said: str
    heard: str

    @property
    def equal(self) -> bool:
        return self.said == self.heard


@dataclass(frozen=True)
class Example:
    """`file` lies in the folder; `source` is the recording it was taken from; `confidence` is the least of its pieces.

    `reference` and `heard` are as written, `parts` as they are compared.
    """

    file: str
    source: str
    group: str
    start_s: float
    seconds: float
    reference: str
    heard: str
    word_errors: int
    words: int
    confidence: float | None
    parts: tuple[Part, ...]


def worst(heard: Sequence[Heard], count: int) -> list[Heard]:
    """At most `count` with a wrong word, the worst first."""
    wrong = [(one, one.errors) for one in heard if one.errors is not None and one.errors.word_errors]
    wrong.sort(key=lambda pair: (-pair[1].word_errors / pair[1].words, -pair[1].word_errors))
    return [one for one, _ in wrong[:count]]


def differences(said: str, heard: str, rule: Rule) -> tuple[Part, ...]:
    """Both texts side by side, by the rule that counts their errors; joined, each side gives its text."""
    left, right = tokens(said, rule), tokens(heard, rule)
    aligned = jiwer.process_words([" ".join(left)], [" ".join(right)]).alignments[0] if left else ()
    return tuple(
        Part(
            " ".join(left[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(right[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in aligned
    )


def write(folder: Path, chosen: Sequence[Heard], title: str) -> list[Example]:
    """The WAV files and both lists. Raises ValueError for a folder that holds something else."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "examples.json").exists():
        raise ValueError(f"{folder} is not empty and holds no examples")
    # First what says whose folder this is, so that a run that is stopped here can be made again.
    (folder / "examples.json").write_text("[]\n", encoding="utf-8")
    for old in folder.glob("[0-9][0-9][0-9].wav"):
        old.unlink()
    examples = [_example(folder, f"{number:03d}.wav", one) for number, one in enumerate(chosen, 1)]
    told = json.dumps([asdict(one) for one in examples], ensure_ascii=False, indent=1)
    (folder / "examples.json").write_text(told + "\n", encoding="utf-8")
    (folder / "index.html").write_text(page(title, examples), encoding="utf-8")
    return examples


def page(title: str, examples: Iterable[Example]) -> str:
    """One HTML page; whatever the texts hold, it is shown and never taken for markup."""
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    lines = [head, f"<style>{STYLE}</style>", f"<h1>{html.escape(title)}</h1>"]
    lines.append("<p><del>said, and not heard</del> <ins>heard, and not said</ins></p>")
    for number, one in enumerate(examples, 1):
        sure = "no confidence" if one.confidence is None else f"confidence {one.confidence:.2f}"
        place = f"from {one.start_s:g} s" if one.start_s else ""
        source = ", ".join(filter(None, (one.source, place, one.group)))
        lines += [
            f"<section><h2>{number}. {one.word_errors} of {one.words} words wrong</h2>",
            f'<audio controls preload="none" src="{html.escape(one.file)}"></audio>',
            f"<p>{' '.join(map(_marked, one.parts))}</p>",
            f"<p>said: {html.escape(one.reference)}<br>heard: {html.escape(one.heard) or '(nothing)'}</p>",
            f"<small>word error {100 * one.word_errors / one.words:.0f} %, {sure}, {one.seconds:.1f} s; "
            f"from {html.escape(source)}</small></section>",
        ]
    return "\n".join(lines) + "\n</html>\n"


def _example(folder: Path, file: str, one: Heard) -> Example:
    (folder / file).write_bytes(wav_bytes(read_reference(one.reference)))
    assert one.errors is not None
    sure = [piece.confidence for piece in one.pieces if piece.confidence is not None]
    return Example(
        file=file,
        source=str(one.reference.audio),
        group=one.reference.group,
        start_s=one.reference.start_s,
        seconds=round(one.seconds, 2),
        reference=one.reference.text,
        heard=one.text,
        word_errors=one.errors.word_errors,
        words=one.errors.words,
        confidence=min(sure, default=None),
        parts=differences(one.reference.text, one.text, one.reference.rule),
    )


def _marked(part: Part) -> str:
    if part.equal:
        return html.escape(part.said)
    said = f"<del>{html.escape(part.said)}</del>" if part.said else ""
    heard = f"<ins>{html.escape(part.heard)}</ins>" if part.heard else ""
    return " ".join(filter(None, (said, heard)))
