"""The Asterisk test fifth: which prompt texts may never be trained on.

In: a prompt's text as Debian's `core-sounds-en.txt` gives it. Out: its normalised words and whether it is a test text.
Knows nothing of audio. Invariant: the rule depends on the text alone, so it was fixed before any training and anyone
can apply it: test iff sha256(normalised text) mod 5 == 0.
"""

import gzip
import hashlib
import re
from pathlib import Path

SOUNDS_FOLDER = Path("usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS_FILE = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")


def normalise(text: str) -> str:
    """Lower-case words and digits only; bracketed remarks such as "[@]" or "(simple tone plays)" are dropped."""
    bare = re.sub(r"\[[^]]*\]|\([^)]*\)|<[^>]*>", " ", text.lower().replace("’", "'"))
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", bare).split())


def is_test(text: str) -> bool:
    """True when the text belongs to the test fifth."""
    digest = hashlib.sha256(normalise(text).encode()).hexdigest()
    return int(digest, 16) % 5 == 0


def prompts(data: Path) -> dict[Path, str]:
    """Audio file -> text of every spoken Asterisk prompt under an unpacked package tree `data`.

    Prompts that are sound events ("[ascending tones]") have no words and are left out.
    """
    found: dict[Path, str] = {}
    for line in gzip.decompress((data / TEXTS_FILE).read_bytes()).decode("utf-8").splitlines():
        name, separator, text = line.strip().partition(": ")
        audio = data / SOUNDS_FOLDER / f"{name}.g722"
        if separator and not line.startswith(";") and normalise(text) and audio.is_file():
            found[audio] = text.strip()
    return found


def speakable(text: str) -> str:
    """What is said: the text without its bracketed remarks and with the symbols read as words."""
    spoken = re.sub(r"\[[^]]*\]|\([^)]*\)|<[^>]*>", " ", text)
    return spoken.replace("*", " star ").replace("#", " pound ")
