"""The producer's side. In: an audio file, or samples. Out: the chunks that a producer would send, really encoded.

Used to send recordings and to try the system. Knows no Kafka; headers are made by `wire.chunk_headers`. Invariant:
`start_sample` counts at the rate that the content type carries, and the chunks tile the recording without a hole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from streams.audio import ALAW, G711_RATE_HZ, MULAW, Int16, Pcm, frame_samples, parse_content_type
from streams.errors import Reject
from streams.resample import SAMPLE_RATE_HZ, supported_rate

OPUS_RATE_HZ: Final = 48_000
OPUS_FRAME_MS: Final = 20


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """One chunk: its bytes, where it starts and how many samples per channel it holds."""

    payload: bytes
    start_sample: int
    samples: int


@dataclass(frozen=True)
class Encoded:
    """A whole recording in chunks; `content_type` is the header of each."""

    content_type: str
    rate: int
    channels: int
    chunks: tuple[EncodedChunk, ...]


def stream_ids(names: Sequence[str]) -> list[str]:
    """The names of files as names of streams: one that was there before gets a number."""
    found: list[str] = []
    for name in names:
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}-{number}"
        found.append(unique)
    return found


def read_audio(path: Path | str) -> Pcm:
    """All audio of a file in any format FFmpeg knows, as int16 at the file's own rate. Raises Reject (decode)."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise Reject("decode", "no audio stream in the file")
            frames = container.decode(container.streams.audio[0])
            parts: list[Int16] = []
            rate = 0
            to_int16 = av.AudioResampler(format="s16p")
            for frame in frames:
                rate = frame.sample_rate
                parts += [_samples(out) for out in to_int16.resample(frame)]
            parts += [_samples(out) for out in to_int16.resample(None)]
    except av.error.FFmpegError as error:
        raise Reject("decode", f"{path}: not an audio file that can be read") from error
    if not parts:
        raise Reject("decode", "the file holds no audio")
    return Pcm(np.concatenate(parts, axis=1), rate)


def convert(pcm: Pcm, rate: int) -> Pcm:
    """The same audio at another rate, by FFmpeg's resampler."""
    if rate == pcm.rate:
        return pcm
    resampler = av.AudioResampler(format="s16p", layout=_layout(pcm.samples.shape[0]), rate=rate)
    frames = [*resampler.resample(_frame(pcm.samples, pcm.rate)), *resampler.resample(None)]
    wanted = -(-pcm.samples.shape[1] * rate // pcm.rate)
    samples = np.concatenate([_samples(frame) for frame in frames], axis=1)[:, :wanted]
    return Pcm(np.ascontiguousarray(samples), rate)


def encode_file(path: Path | str, content_type: str, chunk_ms: int = 100) -> Encoded:
    """`read_audio` and `encode` in one. Raises Reject (decode, codec, rate)."""
    return encode(read_audio(path), content_type, chunk_ms)


def encode(pcm: Pcm, content_type: str, chunk_ms: int = 100) -> Encoded:
    """Encode a recording in chunks of `chunk_ms` (the last one may be shorter).

    `content_type` is one that `audio.decode` reads, MP3 excepted; its `rate` is the rate to send at. Without one, G.711
    is sent at 8 kHz, Ogg (always Opus) at 48 kHz and the rest at the recording's rate, or 16 kHz where that is odd.
    Raises Reject (codec, rate).
    """
    media_type, parameters = parse_content_type(content_type)
    encoder = _ENCODERS.get(media_type)
    if encoder is None:
        raise Reject("codec", f"content type {media_type!r} cannot be sent")
    rate = _rate(media_type, parameters, pcm.rate)
    if chunk_ms < 1 or (media_type == "audio/ogg" and chunk_ms % OPUS_FRAME_MS):
        raise Reject("codec", "chunks of Opus are whole frames of 20 ms")
    pcm = convert(pcm, rate)
    channels = pcm.samples.shape[0]
    chunks = tuple(
        EncodedChunk(encoder(part, rate), start, part.shape[1])
        for start, part in _split(pcm.samples, max(1, rate * chunk_ms // 1000))
    )
    return Encoded(_content_type(media_type, rate, channels), rate, channels, chunks)


def _rate(media_type: str, parameters: Mapping[str, str], recorded: int) -> int:
    text = parameters.get("rate")
    if media_type == "audio/ogg":
        return OPUS_RATE_HZ
    if text is None:
        if media_type in ("audio/pcmu", "audio/pcma"):
            return G711_RATE_HZ
        return recorded if supported_rate(recorded) else SAMPLE_RATE_HZ
    if not (text.isascii() and text.isdigit() and len(text) < 10 and supported_rate(int(text))):
        raise Reject("rate", "not a rate that is spoken")
    return int(text)


def _content_type(media_type: str, rate: int, channels: int) -> str:
    if media_type == "audio/x-raw":
        return f"audio/x-raw;format=S16LE;rate={rate};channels={channels}"
    name = _RTP_NAMES.get(media_type)
    return f"{name};rate={rate};channels={channels}" if name else media_type


def _split(samples: Int16, size: int) -> Iterator[tuple[int, Int16]]:
    for start in range(0, samples.shape[1], size):
        yield start, samples[:, start : start + size]


def _s16le(part: Int16, rate: int) -> bytes:
    return part.T.astype("<i2").tobytes()


def _l16(part: Int16, rate: int) -> bytes:
    return part.T.astype(">i2").tobytes()


def _pcmu(part: Int16, rate: int) -> bytes:
    return _codes(MULAW.tobytes())[part.T.astype(np.int64) + 32768].tobytes()


def _pcma(part: Int16, rate: int) -> bytes:
    return _codes(ALAW.tobytes())[part.T.astype(np.int64) + 32768].tobytes()


def _wav(part: Int16, rate: int) -> bytes:
    return _contained(part, rate, "wav", "pcm_s16le", {})


def _flac(part: Int16, rate: int) -> bytes:
    return _contained(part, rate, "flac", "flac", {"metadata_header_padding": "0"})


def _ogg(part: Int16, rate: int) -> bytes:
    return _contained(part, rate, "ogg", "libopus", {})


@lru_cache(maxsize=2)
def _codes(table: bytes) -> npt.NDArray[np.uint8]:
    """The G.711 code with the nearest value for each 16-bit sample, uint8 [65536]."""
    values = np.frombuffer(table, np.int16).astype(np.int32)
    order = np.argsort(values, kind="stable")
    middles = (values[order][1:] + values[order][:-1]) / 2
    return order[np.searchsorted(middles, np.arange(-32768, 32768))].astype(np.uint8)


def _contained(part: Int16, rate: int, name: str, codec: str, options: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=name, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.layout = _layout(part.shape[0])
        stream.format = "s16"
        stream.time_base = Fraction(1, rate)
        container.mux(stream.encode(_frame(part, rate)))
        container.mux(stream.encode(None))
    return file.getvalue()


def _frame(samples: Int16, rate: int) -> av.AudioFrame:
    interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=_layout(samples.shape[0]))
    frame.sample_rate = rate
    frame.pts = 0
    frame.time_base = Fraction(1, rate)
    return frame


def _samples(frame: av.AudioFrame) -> Int16:
    return np.asarray(frame_samples(frame), dtype=np.int16)


def _layout(channels: int) -> str:
    names = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
    if channels not in names:
        raise ValueError(f"{channels} channels cannot be encoded")
    return names[channels]


_ENCODERS: Final[Mapping[str, Callable[[Int16, int], bytes]]] = {
    "audio/x-raw": _s16le,
    "audio/l16": _l16,
    "audio/pcmu": _pcmu,
    "audio/pcma": _pcma,
    "audio/wav": _wav,
    "audio/flac": _flac,
    "audio/ogg": _ogg,
}
_RTP_NAMES: Final = {"audio/l16": "audio/L16", "audio/pcmu": "audio/PCMU", "audio/pcma": "audio/PCMA"}
