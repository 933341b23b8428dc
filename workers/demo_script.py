"""What the demo plays: three live streams put together from the recordings, or one per file of the user's own.

In: `Recordings`, or paths. Out: `Play`s: a WAV file to send, its content type and roles, the same audio at 16
kHz as the measure for latency and coverage, and who says what when. It does not know Kafka or the results.
Invariant: every position is a 16 kHz sample of the stream, and every reference text lies where its recording
was put.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from streams.encode import convert
from streams.encode import read_audio as read_channels
from streams.errors import Reject
from workers.recordings import RATE_HZ, Missing, Recordings, Samples, read_audio, write_wav

PAUSE_S = 1.2
MUSIC_SKIP_S = 20  # some tracks begin softly
MUSIC_GAIN = 0.5
PHONE_RATE_HZ = 8_000
RING_HZ = (440, 480)

# One step after the other: (channel, what, seconds or None for the whole recording).
Step = tuple[int, str, float | None]
CALL: tuple[Step, ...] = (
    (0, "confbridge-pin", None),
    (1, "caller-0", None),
    (0, "all-circuits-busy-now", None),
    (0, "vm-dialout", None),
    (0, "music:0", 14),
    (0, "queue-quantity2", None),
    (1, "caller-1", None),
    (0, "vm-record-prepend", None),
    (1, "caller-2", None),
    (0, "privacy-prompt", None),
    (0, "vm-rec-unv", None),
)
BROADCAST: tuple[Step, ...] = (
    (0, "music:1", 12),
    (0, "dictate/play_help", None),
    (0, "pbx-invalidpark", None),
    (0, "music:2", 10),
    (0, "vm-options", None),
    (0, "demo-echodone", None),
)
LINE: tuple[Step, ...] = (
    (0, "ring", 4),
    (0, "vm-invalid-password", None),
    (0, "privacy-unident", None),
    (0, "noise", 6),
    (0, "confbridge-only-one", None),
    (0, "silence", 8),
    (0, "conf-invalidpin", None),
    (0, "entr-num-rmv-blklist", None),
    (0, "music:3", 10),
)


@dataclass(frozen=True)
class Utterance:
    """Known words in a stream. `voice` is `prompt` or `caller`."""

    channel: int
    start_sample: int
    end_sample: int
    text: str
    voice: str


@dataclass(frozen=True, eq=False)
class Play:
    """One stream of the demo. `audio`: int16 [channels, n] at 16 kHz, what `path` holds at its own rate."""

    stream_id: str
    path: Path
    content_type: str
    audio: npt.NDArray[np.int16]
    roles: tuple[str, ...] | None = None
    utterances: tuple[Utterance, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """Length of the stream."""
        return float(self.audio.shape[1] / RATE_HZ)


def compose(recordings: Recordings, folder: Path) -> list[Play]:
    """A two-channel µ-law call, a wideband FLAC stream, raw S16LE. Their files are written to `folder`."""
    call, call_words = _lay(CALL, recordings, channels=2)
    phone = np.stack([_resampled(channel, RATE_HZ, PHONE_RATE_HZ) for channel in call])
    write_wav(folder / "call.wav", phone, PHONE_RATE_HZ)
    broadcast, broadcast_words = _lay(BROADCAST, recordings, channels=1)
    write_wav(folder / "broadcast.wav", broadcast)
    line, line_words = _lay(LINE, recordings, channels=1)
    write_wav(folder / "line.wav", line)
    return [
        Play("call", folder / "call.wav", "audio/PCMU", call, ("agent", "customer"), call_words),
        Play("broadcast", folder / "broadcast.wav", "audio/flac", broadcast, None, broadcast_words),
        Play("line", folder / "line.wav", "audio/x-raw", line, None, line_words),
    ]


def own(paths: Sequence[Path], folder: Path) -> list[Play]:
    """One 16 kHz stream per file with the file's channels, sent as FLAC chunks.

    Raises workers.recordings.Missing for an unreadable one.
    """
    plays = []
    for number, path in enumerate(paths):
        try:
            audio = convert(read_channels(path), RATE_HZ).samples
        except Reject as reject:
            raise Missing(reject.detail) from reject
        copy = folder / ("own-%d.wav" % number)
        write_wav(copy, audio)
        plays.append(Play(_name(path, number, paths), copy, "audio/flac", audio))
    return plays


def _name(path: Path, number: int, paths: Sequence[Path]) -> str:
    """The file's name without its ending; with its number where two are called the same."""
    same = sum(other.stem == path.stem for other in paths) > 1
    return "%s-%d" % (path.stem, number) if same else path.stem


def _lay(
    steps: Sequence[Step], recordings: Recordings, channels: int
) -> tuple[Samples, tuple[Utterance, ...]]:
    """The steps one after the other with pauses between: int16 [channels, n], and where the words lie."""
    pieces: list[tuple[int, int, Samples]] = []
    words: list[Utterance] = []
    pause = round(PAUSE_S * RATE_HZ)
    position = pause
    for channel, what, seconds in steps:
        piece = _sound(what, seconds, recordings)
        pieces.append((channel, position, piece))
        if seconds is None:
            speech = recordings.named(what)
            words.append(Utterance(channel, position, position + len(piece), speech.text, speech.voice))
        position += len(piece) + pause
    audio = np.zeros((channels, position), np.int16)
    for channel, start, piece in pieces:
        audio[channel, start : start + len(piece)] = piece
    return audio, tuple(words)


def _sound(what: str, seconds: float | None, recordings: Recordings) -> Samples:
    """One step's audio, int16 [n] at 16 kHz."""
    if seconds is None:
        return read_audio(Path(recordings.named(what).audio))
    count = round(seconds * RATE_HZ)
    if what.startswith("music:"):
        track = read_audio(Path(recordings.music[int(what.removeprefix("music:")) % len(recordings.music)]))
        start = min(MUSIC_SKIP_S * RATE_HZ, max(0, len(track) - count))
        return (track[start : start + count] * MUSIC_GAIN).astype(np.int16)
    if what == "noise":
        return (np.random.default_rng(0).standard_normal(count) * 800).astype(np.int16)
    if what == "ring":  # two seconds on, two off
        time_s = np.arange(count) / RATE_HZ
        tone = np.sin(2 * np.pi * RING_HZ[0] * time_s) + np.sin(2 * np.pi * RING_HZ[1] * time_s)
        return (tone * 3000 * (time_s % 4 < 2)).astype(np.int16)
    assert what == "silence", what
    return np.zeros(count, np.int16)


def _resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = from_hz
    blocks = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([block.to_ndarray()[0] for block in blocks])
