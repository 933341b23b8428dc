"""Pseudo-labels of read speech by Whisper base, where it hears about what the labels there were say.

    python -m model.train.label_words DATA/ls_train100.json      # needs `make bench-extra`

In: an index of read speech with the labels of another recogniser (`sources.read_speech`). Out: the same index with
Whisper base's words; what the two hear too differently is left out. Knows no training. Invariant: a recording that is
kept was heard alike twice; its words are normalised only to be compared.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jiwer

from model.bench import peer
from model.train.spoken import plain

MOST_APART = 0.3  # word errors of Whisper base by the label there was
LABEL = "whisper-base pseudo-label, near the one before"


def merged(items: Sequence[Mapping[str, Any]], heard: Mapping[str, str]) -> list[dict[str, Any]]:
    """The items that were heard alike, by `file`, with the words that were heard now."""
    kept = []
    for item in items:
        before, now = plain(item["text"]), plain(heard[item["file"]])
        if before and now and jiwer.wer(before, now) <= MOST_APART:
            kept.append({**item, "text": heard[item["file"]], "label": LABEL})
    return kept


def label(index: Path, weights: Path) -> tuple[int, int]:
    """Write the index anew; how many recordings it had and has. Raises peer.Missing."""
    items = json.loads(index.read_text(encoding="utf-8"))
    model = peer.load(weights, 1, 1)
    heard = {}
    for item in items:
        segments, _ = model.transcribe(
            str(index.parent / item["file"]), language="en", beam_size=5, condition_on_previous_text=False
        )
        heard[item["file"]] = " ".join(segment.text.strip() for segment in segments)
    kept = merged(items, heard)
    partial = index.with_suffix(".part")
    partial.write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")
    partial.replace(index)
    return len(items), len(kept)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model.train.label_words", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("index", type=Path, help="an index of read speech; is rewritten")
    parser.add_argument(
        "--weights", type=Path, default=Path("build/peer"), help="where Whisper base is put together"
    )
    arguments = parser.parse_args(argv)
    try:
        had, has = label(arguments.index, arguments.weights)
    except (OSError, ValueError, peer.Missing) as error:
        sys.exit(f"error: {error}")
    print(f"{has} of {had} recordings kept")


if __name__ == "__main__":
    main()
