"""Every codec is read right, and no bytes make the decoder crash or take more than its limits."""

from __future__ import annotations

import io
import resource
import struct
from dataclasses import replace

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.audio import ALAW, MULAW, AudioLimits, Pcm, decode
from streams.encode import encode
from streams.errors import Reject
from tests.streams.sound import voice

LIMITS = AudioLimits()
CONTAINERS = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
STEREO = Pcm(np.stack([voice(0.5, 1), voice(0.5, 2)]), 16_000)


def mp3(pcm: Pcm) -> bytes:
    return through("mp3", "libmp3lame", pcm, sample_format="s16p")


def through(container: str, codec: str, pcm: Pcm, sample_format: str = "s16") -> bytes:
    """A file by FFmpeg's own encoder."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[pcm.samples.shape[0]]
    resampler = av.AudioResampler(format=sample_format, layout=layout, rate=pcm.rate)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(pcm.samples.T).reshape(1, -1), format="s16", layout=layout
    )
    frame.sample_rate = pcm.rate
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=pcm.rate, layout=layout)
        for even in resampler.resample(frame):
            out.mux(stream.encode(even))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """One good chunk per container."""
    made = {name: encode(STEREO, name, chunk_ms=500).chunks[0].payload for name in CONTAINERS[:3]}
    return made | {"audio/mpeg": mp3(STEREO)}


@pytest.mark.parametrize("content_type", ["audio/x-raw", "audio/L16", "audio/wav", "audio/flac"])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_lossless_codecs_return_every_sample(content_type: str, channels: int) -> None:
    pcm = Pcm(np.tile(STEREO.samples, (4, 1))[:channels], 16_000)
    encoded = encode(pcm, content_type, chunk_ms=100)
    parts = [decode(encoded.content_type, chunk.payload, LIMITS) for chunk in encoded.chunks]
    assert all(part.rate == 16_000 for part in parts)
    assert np.array_equal(np.concatenate([part.samples for part in parts], axis=1), pcm.samples)


def test_opus_and_mp3_keep_length_and_sound(files: dict[str, bytes]) -> None:
    for name, rate in (("audio/ogg", 48_000), ("audio/mpeg", 16_000)):
        pcm = decode(name, files[name], LIMITS)
        assert pcm.rate == rate
        assert abs(pcm.samples.shape[1] / rate - 0.5) < 0.08  # MP3 frames are 36 ms, and LAME adds its delay
        assert pcm.samples.shape[0] == 2
        assert pcm.samples.std() == pytest.approx(STEREO.samples.std(), rel=0.15)


@pytest.mark.parametrize(("codec", "table"), [("pcm_mulaw", MULAW), ("pcm_alaw", ALAW)])
def test_g711_tables_equal_another_implementation(codec: str, table: np.ndarray) -> None:  # type: ignore[type-arg]
    packet = av.Packet(bytes(range(256)))
    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"  # type: ignore[attr-defined]
    values = np.concatenate([f.to_ndarray().ravel() for f in decoder.decode(packet)])  # type: ignore[attr-defined]
    assert np.array_equal(values, table)


@pytest.mark.parametrize(("name", "table"), [("audio/PCMU", MULAW), ("audio/PCMA;rate=8000", ALAW)])
def test_g711_chunks(name: str, table: np.ndarray) -> None:  # type: ignore[type-arg]
    pcm = decode(name, bytes(range(256)), LIMITS)
    assert pcm.rate == 8000
    assert np.array_equal(pcm.samples[0], table)
    encoded = encode(Pcm(table[None].copy(), 8000), name)
    again = [decode(encoded.content_type, chunk.payload, LIMITS).samples for chunk in encoded.chunks]
    assert np.array_equal(np.concatenate(again, axis=1)[0], table)


@pytest.mark.parametrize(
    "sample_format", ["pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_mulaw"]
)
def test_wav_of_other_widths(sample_format: str) -> None:
    wide = {"pcm_u8": "u8", "pcm_s24le": "s32", "pcm_s32le": "s32", "pcm_f32le": "flt", "pcm_f64le": "dbl"}
    payload = through("wav", sample_format, STEREO, wide.get(sample_format, "s16"))
    got = decode("audio/wav", payload, LIMITS).samples
    worst = {"pcm_u8": 256, "pcm_mulaw": 600}.get(sample_format, 1)
    assert np.abs(got.astype(int) - STEREO.samples).max() <= worst


@pytest.mark.parametrize(
    ("reason", "content_type", "payload"),
    [
        ("codec", "audio/x-new", b"ab"),
        ("codec", "audio/x-raw;format=F32LE;rate=16000", b"ab"),
        ("codec", "audio/x-raw;format=S16LE", b"ab"),
        ("codec", "audio/PCMU;channels=9", b"a" * 9),
        ("codec", "audio/PCMU;channels=0", b"a" * 9),
        ("codec", "audio/PCMU;channels=two", b"a" * 9),
        ("rate", "audio/x-raw;format=S16LE;rate=0", b"ab"),
        ("rate", "audio/x-raw;format=S16LE;rate=99999999999", b"ab"),
        ("rate", "audio/x-raw;format=S16LE;rate=3000", b"ab"),
        ("rate", "audio/x-raw;format=S16LE;rate=16001", b"ab"),
        ("rate", "audio/x-raw;format=S16LE;rate=187425", b"ab"),
        ("rate", "audio/L16;rate=-8000", b"ab"),
        ("truncated", "audio/x-raw;format=S16LE;rate=16000", b"abc"),
        ("truncated", "audio/L16;rate=16000;channels=2", b"abcdef"),
        ("truncated", "audio/PCMA;channels=2", b"abc"),
        ("too_large", "audio/PCMU", b"a" * (LIMITS.max_bytes + 1)),
        ("decode", "audio/wav", b"RIFF nothing of the kind"),
        ("decode", "audio/flac", b"fLaC" + bytes(100)),
        ("decode", "audio/flac", b""),
        ("decode", "audio/flac", b"nothing of the kind" * 100),
        ("decode", "audio/ogg", bytes(100)),
        ("decode", "audio/mpeg", bytes(100)),
    ],
)
def test_bad_input_is_refused_with_its_reason(reason: str, content_type: str, payload: bytes) -> None:
    with pytest.raises(Reject) as refused:
        decode(content_type, payload, LIMITS)
    assert refused.value.reason == reason


@pytest.mark.parametrize("name", ["audio/wav", "audio/flac", "audio/ogg"])
def test_a_file_cut_off_is_truncated(files: dict[str, bytes], name: str) -> None:
    for share in (0.6, 0.9):
        with pytest.raises(Reject) as refused:
            decode(name, files[name][: int(len(files[name]) * share)], LIMITS)
        assert refused.value.reason in ("truncated", "decode")


@pytest.mark.parametrize("name", [*CONTAINERS, "audio/PCMU"])
def test_limits_hold_while_decoding(files: dict[str, bytes], name: str) -> None:
    payload = files.get(name, bytes(4000))
    for limits in (replace(LIMITS, max_seconds=0.3), replace(LIMITS, max_decoded_bytes=2000)):
        with pytest.raises(Reject) as refused:
            decode(name, payload, limits)
        assert refused.value.reason == "too_large"


def test_a_small_file_that_decodes_to_hours_is_stopped() -> None:
    silence = Pcm(np.zeros((1, 16_000 * 600), np.int16), 16_000)
    bomb = encode(silence, "audio/flac", chunk_ms=600_000).chunks[0].payload
    assert len(bomb) < LIMITS.max_bytes
    with pytest.raises(Reject, match="longer than the limit"):
        decode("audio/flac", bomb, LIMITS)


def test_a_forged_header_allocates_nothing(files: dict[str, bytes]) -> None:
    forged = bytearray(files["audio/wav"])
    forged[24:28] = (192_000_000).to_bytes(4, "little")
    with pytest.raises(Reject) as refused:
        decode("audio/wav", bytes(forged), LIMITS)
    assert refused.value.reason == "rate"


def test_another_format_than_declared_is_not_guessed(files: dict[str, bytes]) -> None:
    for declared, real in (
        ("audio/wav", "audio/flac"),
        ("audio/ogg", "audio/wav"),
        ("audio/flac", "audio/ogg"),
    ):
        with pytest.raises(Reject):
            decode(declared, files[real], LIMITS)


@settings(
    derandomize=True,
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(CONTAINERS),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 1 << 20),
)
def test_damaged_files_are_refused_or_bounded(
    files: dict[str, bytes], name: str, flips: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(files[name])
    for at, value in flips:
        damaged[at % len(damaged)] = value
    damaged = damaged[: max(1, cut % (2 * len(damaged)))]
    try:
        pcm = decode(name, bytes(damaged), LIMITS)
    except Reject:
        return
    assert pcm.samples.dtype == np.int16
    assert pcm.samples.nbytes <= LIMITS.max_decoded_bytes
    assert 1 <= pcm.samples.shape[0] <= LIMITS.max_channels


def wav_with(chunk: bytes, size: int) -> bytes:
    """A WAV file with one more chunk before the audio that says it has `size` bytes."""
    whole = encode(Pcm(np.zeros((1, 1600), np.int16), 16_000), "audio/wav").chunks[0].payload
    at = whole.index(b"data")
    return whole[:at] + chunk + size.to_bytes(4, "little") + b"INFOISFT" + whole[at:]


def test_a_wav_chunk_longer_than_the_file_makes_no_room_for_itself() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Reject, match="truncated"):
        decode("audio/wav", wav_with(b"LIST", 0x7F7F001A), AudioLimits())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # KiB


def test_a_big_endian_wav_is_refused() -> None:
    payload = wav_with(b"LIST", 8)
    with pytest.raises(Reject, match="decode"):
        decode("audio/wav", b"RIFX" + payload[4:], AudioLimits())


def test_a_wav_codec_that_nobody_knows_is_refused() -> None:
    payload = bytearray(encode(Pcm(np.zeros((1, 1600), np.int16), 16_000), "audio/wav").chunks[0].payload)
    at = payload.index(b"fmt ") + 8
    payload[at : at + 2] = b"\xfe\x7f"
    with pytest.raises(Reject, match="codec"):
        decode("audio/wav", bytes(payload), AudioLimits())


def test_eight_channels_in_planes_of_their_own_are_read() -> None:
    """What Opus and Vorbis decode to: PyAV's own reading of such a frame ends the process."""
    eight = Pcm(np.tile(STEREO.samples, (4, 1)), 16_000)
    encoded = encode(eight, "audio/ogg", chunk_ms=500)
    assert decode("audio/ogg", encoded.chunks[0].payload, LIMITS).samples.shape[0] == 8
    assert np.array_equal(decode("audio/flac", through("flac", "flac", eight), LIMITS).samples, eight.samples)


def wav_of(bits: int, samples: bytes) -> bytes:
    """A mono WAV file of integer PCM."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000 * bits // 8, bits // 8, bits)
    body = b"WAVEfmt " + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_of_every_spoken_width_is_read(bits: int) -> None:
    assert decode("audio/wav", wav_of(bits, bytes(10 * bits)), LIMITS).samples.shape == (1, 80)


def test_pcm_of_64_bits_is_refused() -> None:
    with pytest.raises(Reject, match="codec: sample format 's64'"):
        decode("audio/wav", wav_of(64, bytes(80)), LIMITS)


@pytest.mark.parametrize("error", [ValueError, IndexError, OverflowError, ZeroDivisionError, TypeError])
def test_what_a_library_says_about_damaged_bytes_is_a_refusal(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(frame: av.AudioFrame) -> None:
        raise error("as PyAV or numpy would")

    monkeypatch.setattr("streams.audio.frame_samples", fail)
    with pytest.raises(Reject, match="decode: %s in flac" % error.__name__):
        decode("audio/flac", files["audio/flac"], LIMITS)


def test_floats_out_of_range_are_clipped_without_a_warning() -> None:
    payload = bytearray(through("wav", "pcm_f32le", Pcm(np.zeros((1, 1600), np.int16), 16_000), "flt"))
    at = payload.index(b"data") + 8
    payload[at : at + 8] = np.array([3e38, -3e38], "<f4").tobytes()
    assert decode("audio/wav", bytes(payload), AudioLimits()).samples[0, :3].tolist() == [32767, -32768, 0]
