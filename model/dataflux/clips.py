"""Raw audio for the loop: from a list of files.

In: a JSONL file. Out: clips that are read when their turn comes. Knows no model. Invariant: audio without a licence is
not taken.

One JSON object per line: `audio` (path, absolute or relative to the list), `licence`, and optionally `source`,
`language`, `category` (a line of the taxonomy), `start`, `end` (seconds), and anything else, which is passed on to what
is written about the clip. Of longer audio the first 29.9 s are taken.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import av
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.dataflux.chat import wav_bytes
from model.dataflux.errors import Misconfigured, Unusable
from model.dataflux.values import Clip, Material, Origin, Samples
from model.train import cards
from model.train.audio import RATE_HZ, read, to_int16

LONGEST_S = 29.9  # what the model hears at a time, less what adding up positions may cost
SHORTEST_S = 0.3


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    audio: Path
    licence: Annotated[str, Field(min_length=1)]
    source: str = ""
    language: str | None = None
    category: str | None = None
    start: Annotated[float, Field(ge=0)] = 0.0
    end: Annotated[float, Field(gt=0)] | None = None
    expires: datetime.datetime | None = None


def listed(path: Path, categories: tuple[str, ...], now: datetime.datetime) -> Iterator[Clip]:
    """The clips of a list, in order; those that have expired are left out. Raises Misconfigured for a bad line."""
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = _Line.model_validate_json(raw)
        except ValidationError as error:
            places = ", ".join(sorted({".".join(map(str, e["loc"])) or "line" for e in error.errors()}))
            raise Misconfigured(f"{path}:{number}: {places}") from None
        if line.category is not None and line.category not in categories:
            raise Misconfigured(f"{path}:{number}: the category is no line of the taxonomy")
        if line.expires is not None and line.expires <= now:
            continue
        audio = line.audio if line.audio.is_absolute() else path.parent / line.audio
        extra: dict[str, Any] = dict(line.model_extra or {})
        if line.expires is not None:
            extra["expires"] = line.expires.isoformat()
        yield Clip(
            name=_name(line),
            load=functools.partial(_load, audio, line.start, line.end),
            source=line.source or audio.name,
            licence=line.licence,
            language=line.language,
            category=line.category,
            path=audio.absolute(),
            start_s=line.start,
            extra=extra,
        )


def keeper(folder: Path) -> Callable[[Clip, Material], Origin]:
    """Says where a clip's audio lies. What was made on the spot is put into the run's folder.

    Nothing else is copied: whoever deletes a recording has deleted it for those who train, too.
    """

    def keep(clip: Clip, material: Material) -> Origin:
        seconds = round(len(material.audio) / RATE_HZ, 3)
        if clip.path is not None:
            end = round(clip.start_s + seconds, 3)
            return Origin(
                str(clip.path), seconds, clip.source, clip.licence, clip.start_s, end, dict(clip.extra)
            )
        place = folder / "audio" / f"{clip.name}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(wav_bytes(material.audio))
        name = place.relative_to(folder).as_posix()
        source = f"{clip.source}: {', '.join(material.cards)}" if material.cards else clip.source
        licence = cards.licence(material.cards) if material.cards else clip.licence
        return Origin(name, seconds, source, licence, extra=dict(clip.extra))

    return keep


def _load(audio: Path, start_s: float, end_s: float | None) -> Material:
    """Raises Unusable(no_audio) for what cannot be decoded or is too short."""
    try:
        wave = read(audio)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise Unusable("no_audio", type(error).__name__, again=False) from None
    last_s = min(end_s or float("inf"), start_s + LONGEST_S)
    part: Samples = to_int16(wave[int(start_s * RATE_HZ) : int(min(last_s * RATE_HZ, len(wave)))])
    if len(part) < SHORTEST_S * RATE_HZ:
        raise Unusable("no_audio", "too short", again=False)
    return Material(part)


def _name(line: _Line) -> str:
    """Stable, and safe as a file's name: the stem and a digest of what is meant."""
    digest = hashlib.sha256(f"{line.audio}|{line.start}|{line.end}".encode()).hexdigest()[:12]
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in line.audio.stem)[:40]
    return f"{stem}-{digest}"
