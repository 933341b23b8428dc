"""Chunks of a file tile it, whatever the encoding, and are what the decoder reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streams.audio import AudioLimits, Pcm, decode
from streams.encode import convert, encode, encode_file, read_audio, stream_ids
from streams.errors import Reject
from tests.streams.sound import voice

TYPES = ["audio/x-raw", "audio/L16", "audio/PCMU", "audio/PCMA", "audio/wav", "audio/flac", "audio/ogg"]
PCM = Pcm(np.stack([voice(0.73, 1), voice(0.73, 2)]), 16_000)


@pytest.mark.parametrize("content_type", TYPES)
def test_chunks_tile_the_recording(content_type: str) -> None:
    encoded = encode(PCM, content_type, chunk_ms=200)
    source = convert(PCM, encoded.rate).samples
    at, parts = 0, []
    for chunk in encoded.chunks:
        assert chunk.start_sample == at
        pcm = decode(encoded.content_type, chunk.payload, AudioLimits())
        assert (pcm.rate, pcm.samples.shape[0]) == (encoded.rate, encoded.channels)
        assert abs(pcm.samples.shape[1] - chunk.samples) <= encoded.rate // 10
        parts.append(pcm.samples[:, : chunk.samples])
        at += chunk.samples
    assert at == source.shape[1]
    error = np.concatenate(parts, axis=1).astype(float) - source
    assert np.abs(error).mean() < 0.1 * np.abs(source).mean()


def test_a_file_is_read_and_sent_at_the_rate_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(encode(PCM, "audio/wav", chunk_ms=1000).chunks[0].payload)
    assert np.array_equal(read_audio(path).samples, PCM.samples)
    encoded = encode_file(path, "audio/x-raw;rate=8000", 100)
    assert encoded.content_type == "audio/x-raw;format=S16LE;rate=8000;channels=2"
    assert [chunk.samples for chunk in encoded.chunks] == [800] * 7 + [240]


def test_streams_of_files_with_one_name_are_told_apart() -> None:
    assert stream_ids(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]


def test_a_file_of_eight_channels_is_read(tmp_path: Path) -> None:
    eight = Pcm(np.tile(PCM.samples, (4, 1)), 16_000)
    path = tmp_path / "eight.wav"
    path.write_bytes(encode(eight, "audio/wav", chunk_ms=1000).chunks[0].payload)
    assert np.array_equal(read_audio(path).samples, eight.samples)
    assert convert(eight, 8_000).samples.shape == (8, PCM.samples.shape[1] // 2)


def test_what_cannot_be_read_or_sent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("no audio at all")
    with pytest.raises(Reject, match="decode"):
        read_audio(path)
    for content_type, reason in (
        ("audio/mpeg", "codec"),
        ("audio/x-raw;rate=12345", "rate"),
        ("text/plain", "codec"),
    ):
        with pytest.raises(Reject) as refused:
            encode(PCM, content_type)
        assert refused.value.reason == reason
    with pytest.raises(Reject, match="whole frames"):
        encode(PCM, "audio/ogg", chunk_ms=30)
