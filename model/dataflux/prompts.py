"""The prompts and the taxonomy: files with a version, filled in by name.

In: a folder. Out: texts with their placeholders (`$caption`) filled. Knows no endpoint. Invariant: `version` changes
with every character of every file, so two runs with the same version asked the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from model.dataflux.errors import Misconfigured

FOLDER = Path(__file__).with_name("prompts")
PLACES: dict[str, frozenset[str]] = {
    "caption": frozenset(),
    "category": frozenset({"taxonomy", "caption", "declared"}),
    "questions": frozenset({"taxonomy", "category", "caption", "count"}),
    "answer": frozenset({"question", "options"}),
    "judge": frozenset({"caption", "question", "options", "answers", "models", "winners"}),
}
TAXONOMY = "taxonomy.json"
_FIRST_LINE = re.compile(r"# version (\d+)\n")


@dataclass(frozen=True)
class Prompts:
    """All texts of a folder. `categories` are the leaves of the taxonomy, as `L0 > L1 > L2`."""

    texts: Mapping[str, Template]
    categories: tuple[str, ...]
    version: str

    def fill(self, name: str, **values: str) -> str:
        """The prompt of this name with every placeholder filled."""
        return self.texts[name].substitute(values)

    @property
    def taxonomy(self) -> str:
        return "\n".join(self.categories)


def load(folder: Path = FOLDER) -> Prompts:
    """Read a folder of prompts. Raises Misconfigured: a file is missing, without a version, or with other places."""
    digest = hashlib.sha256()
    texts, versions = {}, []
    for name, places in PLACES.items():
        raw = _read(folder / f"{name}.txt", digest)
        first = _FIRST_LINE.match(raw)
        if first is None:
            raise Misconfigured(f"{name}.txt does not begin with a line `# version N`")
        template = Template(raw[first.end() :].strip())
        if not template.is_valid() or set(template.get_identifiers()) != places:
            wanted = ", ".join(f"${place}" for place in sorted(places)) or "none"
            raise Misconfigured(f"{name}.txt must have these places, each of them: {wanted}")
        texts[name] = template
        versions.append(int(first[1]))
    tree = json.loads(_read(folder / TAXONOMY, digest))
    categories = tuple(_leaves(tree["tree"]))
    versions.append(int(tree["version"]))
    return Prompts(texts, categories, f"{max(versions)}+{digest.hexdigest()[:8]}")


def _read(path: Path, digest: hashlib._Hash) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from None
    digest.update(b"%d:" % len(raw) + raw)
    return raw.decode()


def _leaves(tree: Mapping[str, Mapping[str, list[str]]]) -> Iterator[str]:
    for top, middle in tree.items():
        for name, leaves in middle.items():
            yield from (f"{top} > {name} > {leaf}" for leaf in leaves)
