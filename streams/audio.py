"""In: the content type and bytes of one chunk. Out: `Pcm`, 16-bit samples at the chunk's own rate, or Reject.

Raw and G.711 audio is read by numpy; WAV, FLAC, Ogg and MP3 by FFmpeg's demuxers and decoders through PyAV. Knows
nothing of sessions or time. Invariant: no input makes it hold more than the limits allow; they are checked before
decoding where a header tells, and frame by frame while decoding.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.audio.plane import AudioPlane

from streams.errors import Reject
from streams.resample import supported_rate

Int16 = npt.NDArray[np.int16]

G711_RATE_HZ: Final = 8000
WAV_UNKNOWN_BYTES: Final = 0x7FFF0000  # what writers that cannot seek put there, or more
_CONTAINERS: Final = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
}
_WAV_MAGIC: Final = (b"RIFF", b"RF64")
_WAV_KEPT: Final = (b"fmt ", b"fact", b"data")
_PCM: Final = ("u8", "s16le", "s24le", "s32le", "s64le", "f32le", "f64le", "mulaw", "alaw")
# Vorbis is not among them: 5.3 kB of its setup header make FFmpeg take 240 MB.
_CODECS: Final = frozenset({"flac", "opus", "mp3", "mp3float", *(f"pcm_{kind}" for kind in _PCM)})
_SAMPLE_TYPES: Final = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "flt": np.float32,
    "dbl": np.float64,
}
# What PyAV and numpy raise over damaged bytes beside FFmpeg's own errors. More would hide our defects.
_DAMAGE: Final = (av.error.FFmpegError, ValueError, ArithmeticError, IndexError, TypeError)
# Opening a file, FFmpeg would decode whatever else is in it: a cover picture that unpacks to gigabytes, a video.
_DEMUXER_OPTIONS: Final = {"err_detect": "crccheck+explode", "codec_whitelist": ",".join(sorted(_CODECS))}
_DECODER_OPTIONS: Final = {"err_detect": "crccheck+explode", "threads": "1"}


@dataclass(frozen=True)
class AudioLimits:
    """What one chunk may be."""

    max_bytes: int = 1 << 20
    max_decoded_bytes: int = 1 << 25
    max_seconds: float = 60.0
    min_rate: int = 4000
    max_rate: int = 192_000
    max_channels: int = 8


@dataclass(frozen=True)
class Pcm:
    """`samples` int16 [channels, n] at `rate` Hz."""

    samples: Int16
    rate: int


def decode(content_type: str, payload: bytes, limits: AudioLimits) -> Pcm:
    """Decode one chunk.

    Raises Reject: codec (a type that is not spoken), rate, too_large, truncated, decode (corrupt).
    """
    if len(payload) > limits.max_bytes:
        raise Reject("too_large", f"{len(payload)} bytes, the limit is {limits.max_bytes}")
    media_type, parameters = parse_content_type(content_type)
    if media_type in _CONTAINERS:
        return _container(_CONTAINERS[media_type], payload, limits)
    if media_type in ("audio/pcmu", "audio/pcma"):
        table = MULAW if media_type == "audio/pcmu" else ALAW
        rate, channels = _format(parameters, limits, default_rate=G711_RATE_HZ)
        return Pcm(_split(table[np.frombuffer(payload, np.uint8)], channels, rate, limits), rate)
    if media_type == "audio/x-raw" and parameters.get("format", "").upper() != "S16LE":
        raise Reject("codec", "audio/x-raw is spoken with format=S16LE only")
    if media_type in ("audio/x-raw", "audio/l16"):
        rate, channels = _format(parameters, limits, default_rate=None)
        if len(payload) % 2:
            raise Reject("truncated", "an odd number of bytes in 16-bit audio")
        samples = np.frombuffer(payload, "<i2" if media_type == "audio/x-raw" else ">i2")
        return Pcm(_split(samples.astype(np.int16, copy=False), channels, rate, limits), rate)
    raise Reject("codec", f"content type {media_type!r} is not spoken")


def parse_content_type(text: str) -> tuple[str, dict[str, str]]:
    """Media type and parameters, names in lower case."""
    media_type, *rest = text.split(";")
    parameters = {}
    for item in rest:
        name, _, value = item.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return media_type.strip().lower(), parameters


def frame_samples(frame: av.AudioFrame) -> npt.NDArray[Any]:
    """The samples [channels, n] of an FFmpeg audio frame in its own sample type. Raises Reject (codec).

    PyAV's `to_ndarray` looks for the end of the planes where there is none once they are eight, and crashes.
    """
    sample_type = _SAMPLE_TYPES.get(frame.format.packed.name)
    if sample_type is None:
        raise Reject("codec", f"sample format {frame.format.name!r} is not spoken")
    planes, interleaved = frame.layout.nb_channels, 1
    if not frame.format.is_planar:
        planes, interleaved = interleaved, planes
    buffers: list[Any] = [AudioPlane(frame, number) for number in range(planes)]
    samples = np.stack([np.frombuffer(b, sample_type, frame.samples * interleaved) for b in buffers])
    return samples.reshape(-1, interleaved).T if interleaved > 1 else samples


def _format(parameters: dict[str, str], limits: AudioLimits, default_rate: int | None) -> tuple[int, int]:
    if "rate" not in parameters and default_rate is None:
        raise Reject("codec", "the content type names no rate")
    numbers = {}
    for name, default in (("rate", default_rate), ("channels", 1)):
        text = parameters.get(name, f"{default}")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise Reject("rate" if name == "rate" else "codec", f"{name} is not a positive integer")
        numbers[name] = int(text)
    _check_format(numbers["rate"], numbers["channels"], limits)
    return numbers["rate"], numbers["channels"]


def _check_format(rate: int, channels: int, limits: AudioLimits) -> None:
    if not (limits.min_rate <= rate <= limits.max_rate and supported_rate(rate)):
        allowed = (
            f"{limits.min_rate} to {limits.max_rate} Hz, a multiple of 1000, or 11025 times 1, 2, 4, 8 or 16"
        )
        raise Reject("rate", f"{rate} Hz; spoken are {allowed}")
    if not 1 <= channels <= limits.max_channels:
        raise Reject("codec", f"{channels} channels; the limit is {limits.max_channels}")


def _check_length(samples: int, channels: int, rate: int, limits: AudioLimits) -> None:
    if samples * channels * 2 > limits.max_decoded_bytes or samples > limits.max_seconds * rate:
        raise Reject("too_large", "longer than the limit once decoded")


def _split(interleaved: Int16, channels: int, rate: int, limits: AudioLimits) -> Int16:
    if interleaved.size % channels:
        raise Reject("truncated", f"{interleaved.size} samples do not divide into {channels} channels")
    _check_length(interleaved.size // channels, channels, rate, limits)
    return np.ascontiguousarray(interleaved.reshape(-1, channels).T)


def _container(name: str, payload: bytes, limits: AudioLimits) -> Pcm:
    payload = _without_id3(payload)
    if name == "ogg" and not _ogg_complete(payload):
        raise Reject("truncated", "the last Ogg page is not complete")
    if name == "wav":
        payload = _wav_audio(payload)
    try:
        with av.open(
            io.BytesIO(payload), format=name, options=dict(_DEMUXER_OPTIONS), metadata_errors="replace"
        ) as container:
            if not container.streams.audio:
                raise Reject("decode", "no audio stream")
            return _decode_stream(container, container.streams.audio[0], limits)
    except _DAMAGE as error:
        raise Reject("decode", f"{type(error).__name__} in {name}") from error


def _decode_stream(container: Any, stream: Any, limits: AudioLimits) -> Pcm:
    context = stream.codec_context
    if context is None:
        raise Reject("codec", "FFmpeg knows no decoder for it")
    if context.name not in _CODECS:
        raise Reject("codec", f"codec {context.name!r} is not spoken")
    rate, channels = int(context.sample_rate), int(context.channels)
    if not (rate and channels):  # FFmpeg found no header: nobody asked for 0 Hz
        raise Reject("decode", "neither rate nor channels can be read")
    _check_format(rate, channels, limits)
    # FLAC and WAV headers say how much audio follows; elsewhere the figure is an estimate.
    exact = stream.duration if context.name == "flac" or context.name.startswith("pcm_") else None
    promised = round(exact * stream.time_base * rate) if exact else 0
    _check_length(promised, channels, rate, limits)
    context.options = dict(_DECODER_OPTIONS)
    parts: list[Int16] = []
    total = 0
    for frame in container.decode(stream):
        if frame.sample_rate != rate or frame.layout.nb_channels != channels:
            raise Reject("decode", "rate or channels change within the chunk")
        total += frame.samples
        _check_length(total, channels, rate, limits)
        parts.append(_int16(frame))
    if not total or total < promised:
        raise Reject("truncated", f"{total} of {promised} samples per channel")
    return Pcm(np.ascontiguousarray(np.concatenate(parts, axis=1)), rate)


def _int16(frame: av.AudioFrame) -> Int16:
    """int16 [channels, n] of an FFmpeg audio frame. Own rounding, because swresample may dither."""
    samples = frame_samples(frame)
    if samples.dtype == np.uint8:
        return np.asarray((samples.astype(np.int16) - 128) << 8, dtype=np.int16)
    if samples.dtype == np.int32:
        return np.asarray(samples >> 16, dtype=np.int16)
    if samples.dtype in (np.float32, np.float64):
        finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
        scaled = np.rint(np.clip(finite, -1.0, 1.0) * 32768.0)
        return np.asarray(np.minimum(scaled, 32767), dtype=np.int16)
    return np.asarray(samples, dtype=np.int16)


def _ogg_complete(payload: bytes) -> bool:
    """Whether the last page is all there (RFC 3533: 27 bytes, segment table, segments)."""
    at = payload.rfind(b"OggS")
    if at < 0:
        return True  # not Ogg at all: the demuxer says so
    table = payload[at + 27 : at + 27 + payload[at + 26]] if len(payload) > at + 26 else b""
    return (
        bool(table) and len(table) == payload[at + 26] and at + 27 + len(table) + sum(table) <= len(payload)
    )


def _without_id3(payload: bytes) -> bytes:
    """What follows the ID3v2 tags. FFmpeg reads them before any format, and unpacks frames to 256 MB each."""
    while payload[:3] == b"ID3" and len(payload) >= 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(payload[6:10], (21, 14, 7, 0), strict=True))
        payload = payload[10 + size + (10 if payload[5] & 0x10 else 0) :]
    return payload


def _wav_audio(payload: bytes) -> bytes:
    """The same WAV file with nothing but format and audio. Raises Reject (decode, truncated).

    FFmpeg shortens the audio without a word, and makes room for as much metadata as a chunk says it has, up to 4 GiB.
    """
    if payload[:4] not in _WAV_MAGIC or payload[8:12] != b"WAVE":
        raise Reject("decode", "not a little-endian WAV file")
    kept: dict[bytes, bytes] = {}
    at, long_size = 12, 0
    while at + 8 <= len(payload):
        name, size = payload[at : at + 4], int.from_bytes(payload[at + 4 : at + 8], "little")
        if name == b"ds64":  # RF64 says here how long the audio is
            long_size = int.from_bytes(payload[at + 16 : at + 24], "little")
        if name == b"data" and size >= WAV_UNKNOWN_BYTES:
            size = long_size or len(payload) - at - 8
        if at + 8 + size > len(payload):
            raise Reject("truncated", "less audio than the WAV header says")
        if name in _WAV_KEPT:
            kept.setdefault(name, payload[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    if not {b"fmt ", b"data"} <= kept.keys():
        raise Reject("decode", "a WAV file without format or audio")
    parts = [name + len(kept[name]).to_bytes(4, "little") + kept[name] for name in _WAV_KEPT if name in kept]
    body = b"WAVE" + b"".join(part + bytes(len(part) & 1) for part in parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _mulaw_table() -> Int16:
    """ITU-T G.711 µ-law, 14-bit values scaled to 16 bits."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Int16:
    """ITU-T G.711 A-law, 13-bit values scaled to 16 bits."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    segment = (code & 0x70) >> 4
    base = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment == 0, base, (base + 0x100) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


MULAW: Final = _mulaw_table()
ALAW: Final = _alaw_table()
