"""What `eureka evaluate …` runs: the measurements of `model.evaluate` on the recordings and the windows of this system.

In: settings, a manifest or the demo's recordings. Out: flat reports. It measures nothing itself, except that it
sends the non-speech audio through the worker's own segmenter too, so that the figure with the VAD stands beside
the one without.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.answers import Request, TextAnswer
from model.engine import Engine
from model.evaluate import asr, nonspeech, scenes
from model.train.sounds import load_recordings
from streams.windows import CutterConfig, Track
from workers.limits import cutter_config
from workers.recordings import Missing, Say, obtain, write_wav
from workers.settings import Settings
from workers.transcribe import windows


def open_engine(settings: Settings, checkpoint: Path | None, device: str | None) -> Engine:
    """The engine in this process."""
    return Engine.open(
        checkpoint or settings.checkpoint,
        device=device or settings.device,
        compile=False,
        half=None if settings.engine_half else False,
        short_buckets=settings.engine_short_buckets,
        threads=settings.engine_threads,
    )


def on_manifest(engine: Engine, manifest: Path) -> dict[str, Any]:
    """Word error rate on lines {"audio", "text"}."""
    return _asr(engine, asr.read_manifest(manifest))


def on_prompts(engine: Engine, asterisk: Path) -> dict[str, Any]:
    """Word error rate on the Asterisk prompts whose texts were kept out of training."""
    return _asr(engine, asr.test_prompts(asterisk))


def on_scenes(engine: Engine, asterisk: Path, esc10: Path | None, count: int) -> dict[str, Any]:
    """Sounds told apart, and the same with the audio shuffled between the scenes."""
    return _signed(engine, asdict(scenes.evaluate(engine, scenes.build(asterisk, esc10, count))))


def on_nonspeech(engine: Engine, asterisk: Path, esc10: Path | None, settings: Settings) -> dict[str, Any]:
    """Words invented where nobody speaks, without the VAD and end to end, and the recall on real prompts."""
    report = asdict(nonspeech.evaluate(engine, asterisk, esc10, asr.test_prompts(asterisk)))
    sounds = nonspeech.windows(load_recordings(asterisk, esc10, held_out=True))
    report |= _end_to_end(engine, [audio for _, audio in sounds], cutter_config(settings))
    return _signed(engine, report)


def asterisk_folder(recordings: Path, say: Say) -> Path:
    """Debian's unpacked packages under `recordings`, fetched if absent. Raises Missing: synthetic ones will not do."""
    if obtain(recordings, say).origin != "asterisk":
        raise Missing("this measurement needs the real recordings, and they cannot be had")
    return recordings / "debian"


def _asr(engine: Engine, references: Sequence[asr.Reference]) -> dict[str, Any]:
    report = asr.evaluate(references, asr.engine_transcriber(engine))
    flat = asdict(report.all) | {"audio_s": report.audio_s, "times_real_time": report.times_real_time}
    if report.groups:
        flat["groups"] = {name: asdict(score) for name, score in report.groups.items()}
    return _signed(engine, flat)


def _end_to_end(engine: Engine, sounds: Sequence[Any], cutter: CutterConfig) -> dict[str, Any]:
    """The same sounds, each as a stream of its own, cut as a worker cuts them."""
    let_through, words = 0, 0
    with tempfile.TemporaryDirectory(prefix="eureka-nonspeech-") as name:
        path = Path(name) / "sound.wav"
        for audio in sounds:
            write_wav(path, audio)
            for window in windows(path, cutter):
                if window.track is not Track.SPEECH:
                    continue
                let_through += 1
                response = engine.run([Request("nonspeech", window.audio, ("transcript",))])[0]
                words += sum(len(a.text.split()) for a in response.answers if isinstance(a, TextAnswer))
    return {"end_to_end_words": words, "end_to_end_windows": let_through}


def _signed(engine: Engine, report: dict[str, Any]) -> dict[str, Any]:
    return {"model": engine.name, "version": engine.version, "device": engine.device} | report
