"""Readers of public speech corpora as they are unpacked: LibriSpeech, Fleurs, AISHELL-2, WenetSpeech, Sphinx.

In: a folder of the corpus. Out: `Reference`s in the corpus' own order. Knows no model and no score. Invariant: a line
that cannot be read, or whose audio is not there, is an error that names it, never left out: a figure on part of a test
set is no figure of that set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from model.evaluate.asr import Reference
from model.evaluate.text import Rule

_SPHINX = re.compile(r"<s>(.*)</s>\s*\((\S+)\)")


def librispeech(folder: Path) -> Iterator[Reference]:
    """`SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`: lines `ID TEXT`; audio `ID.flac` beside it (OpenSLR 12)."""
    for listing in sorted(folder.glob("*/*/*.trans.txt")):
        for number, line in _lines(listing):
            name, _, text = line.partition(" ")
            yield Reference(_there(listing.parent / f"{name}.flac", listing, number), text.strip())


def fleurs(listing: Path, rule: Rule = "en") -> Iterator[Reference]:
    """A split's `test.tsv` without heading: id, file, raw transcription, transcription, …; audio unpacked near it.

    arXiv 2205.12446. The reference is the raw transcription; both sides are normalised when they are compared.
    """
    for number, line in _lines(listing):
        fields = line.split("\t")
        if len(fields) < 4:
            raise ValueError(f"{listing}:{number}: {len(fields)} columns, at least 4 wanted")
        places = [
            listing.parent / inner / fields[1]
            for inner in (f"audio/{listing.stem}", listing.stem, "audio", ".")
        ]
        audio = next((place for place in places if place.exists()), places[0])
        yield Reference(_there(audio, listing, number), fields[2], rule=rule)


def aishell2(folder: Path) -> Iterator[Reference]:
    """`wav.scp` (`ID path`) and `trans.txt` (`ID text`) of a split such as `iOS/test` (arXiv 1808.10583)."""
    paths = dict(_table(folder / "wav.scp"))
    for name, text in _table(folder / "trans.txt"):
        if name not in paths:
            raise ValueError(f"{folder / 'wav.scp'}: no audio for {name}")
        yield Reference(_there(folder / paths[name], folder / "wav.scp", 0), text, rule="zh")


def wenetspeech(listing: Path, subset: str) -> Iterator[Reference]:
    """Segments of `WenetSpeech.json` in a subset (`TEST_NET`, `TEST_MEETING`); arXiv 2110.03370.

    Each is a part of a long recording, so recordings follow one another.
    """
    for recording in json.loads(listing.read_text(encoding="utf-8"))["audios"]:
        for part in recording["segments"]:
            if subset in part["subsets"]:
                yield Reference(
                    _there(listing.parent / recording["path"], listing, 0),
                    part["text"],
                    rule="zh",
                    start_s=float(part["begin_time"]),
                    end_s=float(part["end_time"]),
                )


def sphinx(folder: Path) -> Iterator[Reference]:
    """Human recordings of Debian's `pocketsphinx-testdata` (`…/pocketsphinx/test/data`): `librivox`, `cards`.

    Lines `<s> text </s> (ID)`. A few utterances only, but read by people, with true texts.
    """
    for listing in (folder / "librivox/transcription", folder / "cards/cards.transcription"):
        for number, line in _lines(listing):
            found = _SPHINX.fullmatch(line.strip())
            if found is None:
                raise ValueError(f"{listing}:{number}: not a line like <s> text </s> (ID)")
            audio = _there(listing.parent / f"{found[2]}.wav", listing, number)
            yield Reference(audio, found[1].strip(), listing.parent.name)


def _lines(listing: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield number, line


def _table(listing: Path) -> Iterator[tuple[str, str]]:
    """Name and the rest of each line, whatever blank is between them."""
    for number, line in _lines(listing):
        name, *rest = line.split(maxsplit=1)
        if not rest:
            raise ValueError(f"{listing}:{number}: a name and nothing else")
        yield name, rest[0].strip()


def _there(audio: Path, listing: Path, number: int) -> Path:
    if not audio.is_file():
        place = f"{listing}:{number}" if number else str(listing)
        raise ValueError(f"{place}: {audio} is not there")
    return audio
