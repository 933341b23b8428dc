"""Speak sentences with Kokoro-82M (ONNX): the one neural voice family of the training data.

In: a plan (JSON lines {"id", "text", "voice", "rate", …}), the model file, the folder of voice styles. Out: one 16 kHz
WAV per line and a manifest. A stand-alone script that nano.py starts in a Python environment with onnxruntime, numpy
and scipy; the project does not depend on them and imports nothing from here. Knows nothing of what the audio is for.
A voice is the name of a style file, or two joined by "+": the mean of both, which is a speaker nobody has.
Style files are float32 [510, 1, 256], one style per number of phonemes; phonemes come from espeak-ng.
Invariant: a clip that the manifest lists is not made again, so the run may be stopped and continued.
"""

import argparse
import json
import subprocess
import wave
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]
from scipy.signal import resample_poly  # type: ignore[import-untyped,unused-ignore]

# Token ids of Kokoro-82M's published vocabulary, as far as espeak's English uses it.
SYMBOLS = {
    **dict(zip(";:,.!?", range(1, 7), strict=True)),
    " ": 16,
    "a": 43, "b": 44, "c": 45, "d": 46, "e": 47, "f": 48, "h": 50, "i": 51, "j": 52, "k": 53, "l": 54, "m": 55,
    "n": 56, "o": 57, "p": 58, "q": 59, "r": 60, "s": 61, "t": 62, "u": 63, "v": 64, "w": 65, "x": 66, "y": 67,
    "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "ɔ": 76, "ç": 78, "ð": 81, "ʤ": 82, "ə": 83, "ɚ": 85, "ɛ": 86,
    "ɜ": 87, "ɡ": 92, "ɪ": 102, "ŋ": 112, "ɲ": 114, "θ": 119, "ɹ": 123, "ɾ": 125, "ʃ": 131, "ʧ": 133, "ʊ": 135,
    "ʌ": 138, "ʒ": 147, "ʔ": 148, "ˈ": 156, "ˌ": 157, "ː": 158, "ʰ": 162, "ʲ": 164, "ᵻ": 177,
}  # fmt: skip
MODEL_RATE_HZ = 24_000
MOST_PHONEMES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak a plan with Kokoro-82M.")
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--voices", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(arguments.model), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    listed = listed_clips(arguments.out / "manifest.jsonl")
    with (arguments.out / "manifest.jsonl").open("a", encoding="utf-8") as manifest:
        for line in arguments.plan.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            path = arguments.out / f"{item['id']}.wav"
            ids = [
                SYMBOLS[c]
                for c in phonemes(item["text"], british=item["voice"].startswith("b"))
                if c in SYMBOLS
            ]
            if item["id"] in listed or not 0 < len(ids) <= MOST_PHONEMES:
                continue
            style = voice_style(arguments.voices, item["voice"])[len(ids)]
            feed = {
                names[0]: np.array([[0, *ids, 0]], np.int64),
                names[1]: style.reshape(1, 256).astype(np.float32),
                names[2]: np.array([item["rate"]], np.float32),
            }
            audio = resample_poly(session.run(None, feed)[0].reshape(-1), 2, 3)
            write_wav(path, audio)
            manifest.write(json.dumps({**item, "audio": path.name, "seconds": len(audio) / 16_000}) + "\n")
            manifest.flush()


def listed_clips(manifest: Path) -> set[str]:
    """The ids that a manifest lists: each line was written whole, after its clip."""
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.exists() else []
    return {json.loads(line)["id"] for line in lines}


def phonemes(text: str, british: bool) -> str:
    """espeak-ng's IPA, adapted to Kokoro's symbols."""
    command = ["espeak-ng", "-v", "en-gb" if british else "en-us", "--ipa", "-q", text]
    ipa = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    return (
        ipa.replace("ʲ", "j")
        .replace("r", "ɹ")
        .replace("x", "k")
        .replace("ɬ", "l")
        .replace("tʃ", "ʧ")
        .replace("dʒ", "ʤ")
    )


def voice_style(folder: Path, voice: str) -> np.ndarray:
    """Mean of the style tables [510, 1, 256] that the voice names."""
    tables = [
        np.fromfile(folder / f"{name}.bin", np.float32).reshape(510, 1, 256) for name in voice.split("+")
    ]
    mean: np.ndarray = np.mean(tables, axis=0)
    return mean


def write_wav(path: Path, audio: np.ndarray) -> None:
    """Mono 16 kHz S16LE, peak at most 0.9; written whole or not at all."""
    peak = max(float(np.abs(audio).max()), 1e-6)
    samples = np.round(audio * min(1.0, 0.9 / peak) * 32767).astype("<i2")
    partial = path.with_suffix(".part")
    with wave.open(str(partial), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(samples.tobytes())
    partial.rename(path)


if __name__ == "__main__":
    main()
