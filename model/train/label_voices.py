"""Whether a man or a woman reads, by pitch: labels for real speakers of whom nothing else is known.

    python -m model.train.label_voices DATA/ls_train100.json

In: an index of read speech (`sources.read_speech`). Out: the same index with "sex" where the pitch is clear. Knows no
model. Invariant: a median pitch between the two ranges gives no label; whatever "sex" was there before is replaced.
The ranges leave out the valley between the two heights of the pitches of LibriSpeech's speakers (145 to 175 Hz).
"""

import argparse
import json
import sys
from pathlib import Path

from model.dataflux import signal
from model.train.audio import read, to_int16

MALE_BELOW_HZ, FEMALE_ABOVE_HZ = 145.0, 175.0


def sex(pitch_hz: float | None) -> str | None:
    """male, female, or None where the pitch does not tell."""
    if pitch_hz is None or MALE_BELOW_HZ <= pitch_hz <= FEMALE_ABOVE_HZ:
        return None
    return "male" if pitch_hz < MALE_BELOW_HZ else "female"


def label(index: Path) -> dict[str | None, int]:
    """Write the labels into the index; returns how many readers got which."""
    items = json.loads(index.read_text(encoding="utf-8"))
    counts: dict[str | None, int] = {}
    for item in items:
        found = sex(signal.measure(to_int16(read(index.parent / item["file"]))).pitch_hz)
        item["sex"] = found
        counts[found] = counts.get(found, 0) + 1
    partial = index.with_suffix(".part")
    partial.write_text(json.dumps(items, indent=0) + "\n", encoding="utf-8")
    partial.replace(index)
    return counts


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model.train.label_voices", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "index", type=Path, help="an index of read speech, DATA/ls_train100.json; is rewritten"
    )
    arguments = parser.parse_args(argv)
    try:
        counts = label(arguments.index)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{sex or 'not clear'} {count}" for sex, count in counts.items()))


if __name__ == "__main__":
    main()
