"""Packages that only some evaluations take: the extra `evaluate`.

In: the name of a module. Out: the module. Knows no evaluation. Invariant: where it is missing, one line says what
wanted it and how to get it; nothing else of a command fails for it.
"""

from __future__ import annotations

import importlib
from typing import Any

HOW = "pip install --no-deps --require-hashes -r requirements-evaluate.lock"


def module(name: str, what: str) -> Any:
    """Raises ValueError when its package is not installed; `what` is what takes it, for the message."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ValueError(f"{what} takes {package}, of the extra `evaluate`: {HOW}") from None
