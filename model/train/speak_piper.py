"""Speak sentences with a Piper voice. A stand-alone script like speak_kokoro.py, for an environment with piper-tts.

In: a plan (JSON lines {"id", "text", "rate", …}) and the voice's ONNX file. Out: one WAV per line at the voice's own
rate, and a manifest. Invariant: a clip that the manifest lists is not made again.
"""

import argparse
import json
import wave
from pathlib import Path

from piper import PiperVoice, SynthesisConfig  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak a plan with a Piper voice.")
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    voice = PiperVoice.load(str(arguments.model))
    arguments.out.mkdir(parents=True, exist_ok=True)
    listed = listed_clips(arguments.out / "manifest.jsonl")
    with (arguments.out / "manifest.jsonl").open("a", encoding="utf-8") as manifest:
        for line in arguments.plan.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            path = arguments.out / f"{item['id']}.wav"
            if item["id"] in listed:
                continue
            with wave.open(str(path), "wb") as out:
                voice.synthesize_wav(
                    item["text"], out, syn_config=SynthesisConfig(length_scale=1 / item["rate"])
                )
                seconds = out.getnframes() / out.getframerate()
            manifest.write(json.dumps({**item, "audio": path.name, "seconds": seconds}) + "\n")
            manifest.flush()


def listed_clips(manifest: Path) -> set[str]:
    """The ids that a manifest lists: each line was written whole, after its clip."""
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.exists() else []
    return {json.loads(line)["id"] for line in lines}


if __name__ == "__main__":
    main()
