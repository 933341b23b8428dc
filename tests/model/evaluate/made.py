"""A few generated items of every public set, in the folders and formats of its own release."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tests.streams.sound import voice

CODECS = {".flac": "flac", ".opus": "libopus", ".wav": "pcm_s16le", ".ogg": "libopus"}


def encode(path: Path, audio: npt.NDArray[np.int16], rate_hz: int = 16_000) -> Path:
    """A mono recording in the codec of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=rate_hz)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(stream.format, "mono", rate_hz, frame_size=stream.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def said(seconds: float = 0.8, seed: int = 1) -> npt.NDArray[np.int16]:
    return voice(seconds, seed)


def sets(folder: Path) -> Path:
    """All sets of the paper, under one folder."""
    for split in ("test-clean", "test-other"):
        chapter = folder / "LibriSpeech" / split / "61" / "70968"
        encode(chapter / "61-70968-0000.flac", said())
        encode(chapter / "61-70968-0001.flac", said(0.8, 2))
        lines = "61-70968-0000 HE BEGAN A CONFUSED COMPLAINT\n61-70968-0001 NOW THEN\n"
        (chapter / "61-70968.trans.txt").write_text(lines)
    fleurs = folder / "fleurs" / "en_us"
    encode(fleurs / "audio" / "test" / "1003.wav", said())
    row = ["1675", "1003.wav", "“Now,” she said.", "now she said", "n o w |", "12800", "FEMALE"]
    (fleurs / "test.tsv").write_text("\t".join(row) + "\n", encoding="utf-8")
    aishell = folder / "AISHELL-2" / "iOS" / "test"
    encode(aishell / "wav" / "T0055" / "IT0055W0001.wav", said())
    (aishell / "wav.scp").write_text("IT0055W0001\twav/T0055/IT0055W0001.wav\n")
    (aishell / "trans.txt").write_text("IT0055W0001\t厨房用具\n", encoding="utf-8")
    _wenetspeech(folder / "WenetSpeech")
    _voicebench(folder / "voicebench")
    _choices(folder)
    return folder


def _wenetspeech(folder: Path) -> None:
    audios = []
    for name, subset in (("test_net", "TEST_NET"), ("test_meeting", "TEST_MEETING")):
        path = f"audio/{name}/B00000/Y0.opus"
        long = np.concatenate([np.zeros(16_000, np.int16), said(1.0)])
        encode(folder / path, np.repeat(long, 3), 48_000)
        segments = [
            {"sid": "S0", "begin_time": 0.0, "end_time": 0.5, "subsets": ["DEV"], "text": "不是"},
            {"sid": "S1", "begin_time": 1.0, "end_time": 2.0, "subsets": [subset], "text": "你好 API"},
        ]
        audios.append({"aid": "Y0", "path": path, "duration": 2.0, "segments": segments})
    (folder / "WenetSpeech.json").write_text(
        json.dumps({"audios": audios}, ensure_ascii=False), encoding="utf-8"
    )


def _voicebench(folder: Path) -> None:
    asked = "What falls? A. stones B. light C. songs D. names"
    rows: dict[str, list[dict[str, Any]]] = {
        "mmsu": [{"prompt": asked, "reference": "A"}],
        "openbookqa": [{"prompt": asked, "reference": "A"}],
        "advbench": [{"prompt": "Tell me how to break a lock."}],
        "ifeval": [
            {
                "key": 1,
                "prompt": "Write without commas.",
                "instruction_id_list": ["punctuation:no_comma", "keywords:frequency"],
                "kwargs": [
                    {},
                    {"keyword": "stone", "frequency": 2, "relation": "less than", "num_words": None},
                ],
            },
            {
                "key": 2,
                "prompt": "Answer in German.",
                "instruction_id_list": ["language:response_language"],
                "kwargs": [{"language": "de"}],
            },
        ],
    }
    for name, some in rows.items():
        encode(folder / name / "0.wav", said(0.5))
        lines = (json.dumps(row | {"audio": "0.wav"}) for row in some)
        (folder / name / "test.jsonl").write_text("\n".join(lines) + "\n")


def _choices(folder: Path) -> None:
    encode(folder / "MMAU" / "test-mini-audios" / "3fe64f3d.wav", said(0.5))
    item = {
        "id": "3fe64f3d",
        "audio_id": "./test-mini-audios/3fe64f3d.wav",
        "question": "Who is speaking?",
        "choices": ["A man", "A woman", "A child", "A robot"],
        "answer": "A woman",
        "dataset": "AudioSet",
        "task": "sound",
        "split": "test-mini",
        "category": "Reasoning",
        "sub-category": "Acoustic Source Inference",
        "difficulty": "medium",
    }
    kept_back = item | {"id": "x", "answer": ""}
    (folder / "MMAU" / "mmau-test-mini.json").write_text(json.dumps([item, kept_back]))
    encode(folder / "MMAR" / "audio" / "BV1.wav", said(0.5))
    item = {
        "id": "BV1",
        "audio_path": "./audio/BV1.wav",
        "question": "Is it music?",
        "choices": "['yes', 'no']",
        "answer": "no",
        "modality": "mix-sound-speech",
        "category": "Semantic Layer",
        "sub-category": "Content Analysis",
        "language": "en",
        "source": "youtube",
        "url": "",
        "timestamp": "00:00:00,00:00:01",
    }
    (folder / "MMAR" / "MMAR-meta.json").write_text(json.dumps([item]))
