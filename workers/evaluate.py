"""What `eureka evaluate …` runs: the measurements of `model.evaluate` on the recordings and the windows of this system.

In: settings, manifests, folders of data, the demo's recordings. Out: flat reports. It measures nothing itself, except
that it sends the non-speech audio through the worker's own segmenter too, so that the figure with the VAD stands beside
the one without.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.answers import Request, TextAnswer
from model.engine import Engine
from model.evaluate import aligner, asr, corpora, digits, events, nonspeech, paralinguistic, scenes, times
from model.evaluate.calibration import reliability
from model.evaluate.confusions import Confusion, confusions
from model.evaluate.heard import (
    Heard,
    Listening,
    Way,
    character_errors,
    listen,
    transcript_confidences,
    ways,
    word_confidences,
    word_errors,
)
from model.evaluate.measures import Measure
from model.evaluate.report import record
from model.train.sounds import load_recordings
from streams.windows import CutterConfig, Track
from workers.limits import cutter_config
from workers.recordings import Missing, Say, obtain, write_wav
from workers.settings import Settings
from workers.transcribe import windows

CORPORA: dict[str, Callable[[Path], Iterator[asr.Reference]]] = {
    "librispeech": corpora.librispeech,
    "fleurs": corpora.fleurs,
    "aishell2": corpora.aishell2,
    "wenetspeech-net": lambda path: corpora.wenetspeech(path, "TEST_NET"),
    "wenetspeech-meeting": lambda path: corpora.wenetspeech(path, "TEST_MEETING"),
    "sphinx": corpora.sphinx,
}


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


def on_manifest(engine: Engine, manifest: Path, way: Way | None = None) -> dict[str, Any]:
    """Word errors and calibration on lines {"audio", "text"}."""
    return _asr(engine, asr.read_manifest(manifest), way)


def on_corpus(engine: Engine, corpus: str, path: Path, way: Way | None = None) -> dict[str, Any]:
    """The same on a public corpus as it is unpacked. Raises ValueError for one that is not known or holds nothing."""
    if corpus not in CORPORA:
        raise ValueError(f"corpus {corpus}: there are readers for {', '.join(CORPORA)}")
    references = list(CORPORA[corpus](path))
    if not references:
        raise ValueError(f"{path} holds no utterance of {corpus}")
    return _asr(engine, references, way)


def on_prompts(engine: Engine, asterisk: Path) -> dict[str, Any]:
    """Word error rate on the Asterisk prompts whose texts were kept out of training."""
    return _asr(engine, asr.test_prompts(asterisk), None)


def on_digits(engine: Engine, takes: Path, count: int) -> dict[str, Any]:
    """Digit strings of the held-out speaker by every way of the checkpoint, and the word times of its first."""
    measures: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="eureka-digits-") as name:
        for pause_s, what in ((0.1, "0.1 s between digits"), (0.0, "no pause between digits")):
            references = digits.build(takes, Path(name), count, pause_s)
            for way in ways(engine):
                heard = listen(engine, references, way).heard
                measures.append(word_errors(f"{what}, by {way}: WER", heard))
                if way == ways(engine)[0] and engine.config.ctc:
                    measures += times.differences(what, heard)
    return _signed(engine, {"strings": count, "measures": [record(one) for one in measures]})


def on_times(engine: Engine, manifest: Path | None, asterisk: Path | None, align: bool) -> dict[str, Any]:
    """Word times against those of a manifest, or of an independent aligner; of the Asterisk prompts always the latter.

    Raises ValueError when neither is given, or no word has a time.
    """
    if manifest is not None:
        name, references = manifest.stem, asr.read_manifest(manifest)
    elif asterisk is not None:
        name, references, align = "prompts", asr.test_prompts(asterisk), True
    else:
        raise ValueError("word times of what?")
    if align:
        references = list(aligner.align(references))
    measured = times.differences(name, listen(engine, references).heard)
    told = {"utterances": len(references), "words": sum(len(one.words) for one in references)}
    return _signed(engine, told | {"measures": [record(one) for one in measured]})


def on_events(engine: Engine, sounds: Path) -> dict[str, Any]:
    """Sound events of the held-out fold: how many are named, and what the checkpoint's broad question calls them."""
    report = events.evaluate(engine, sounds)
    told: dict[str, Any] = {"measures": [record(report.accuracy)], "named": _cells(report.named)}
    if report.broad is not None:
        told["kinds"] = _cells(report.broad)
    return _signed(engine, told)


def on_voices(
    engine: Engine,
    asterisk: Path | None,
    sounds: Path | None,
    takes: Path | None,
    manifest: Path | None,
    count: int,
) -> dict[str, Any]:
    """Confusion matrices of paralinguistic questions: held-out voices, or a manifest with labels."""
    if manifest is not None:
        items = paralinguistic.of_references(asr.read_manifest(manifest))
    else:
        assert asterisk is not None
        items = paralinguistic.windows(asterisk, sounds, takes, count)
    found = confusions(engine, items)
    if not found:
        raise ValueError("nothing has a label for a question of this checkpoint")
    told: dict[str, Any] = {"measures": [record(one.accuracy(one.question)) for one in found]}
    return _signed(engine, told | {one.question: _cells(one) for one in found})


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


def _asr(engine: Engine, references: Sequence[asr.Reference], way: Way | None) -> dict[str, Any]:
    """Rates are fractions. Raises ValueError when no reference holds a word."""
    listening = listen(engine, references, way)
    report = {"by": way or ways(engine)[0]} | _scores(listening.heard)
    report |= {"audio_s": listening.audio_s, "times_real_time": _speed(listening)}
    groups = sorted({one.group for one in references if one.group})
    if groups:
        report["groups"] = {
            group: _scores([one for one in listening.heard if one.reference.group == group])
            for group in groups
        }
    report["calibration"] = [
        {name: value for name, value in asdict(reliability(what, pairs)).items() if name != "bins"}
        for what, pairs in (
            ("transcripts", transcript_confidences(listening.heard)),
            ("words", word_confidences(listening.heard)),
        )
        if pairs
    ]
    return _signed(engine, report)


def _scores(heard: Sequence[Heard]) -> dict[str, Any]:
    counted = [one.errors for one in heard if one.errors is not None]
    if not counted:
        raise ValueError("no reference holds a word")
    words = word_errors("", heard).interval()
    total = sum(one.words for one in counted)
    return {
        "utterances": len(counted),
        "words": total,
        "wer": words.value / 100,
        "wer_low": words.low / 100,
        "wer_high": words.high / 100,
        "cer": character_errors("", heard).interval().value / 100,
        "recall": sum(one.hits for one in counted) / total,
    }


def _speed(listening: Listening) -> float:
    return listening.audio_s / max(listening.spent_s, 1e-9)


def _cells(confusion: Confusion) -> list[dict[str, Any]]:
    """A confusion matrix as a table: a row for each truth."""
    return [
        {"truth": truth} | dict(zip(confusion.columns, counts, strict=True))
        for truth, counts in zip(confusion.rows, confusion.counts, strict=True)
    ]


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
