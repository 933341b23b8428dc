"""Of an exception, what may be told: all of ours, of another where it came from."""

import errno
import importlib
import re
from collections.abc import Callable

import pytest

from streams.errors import Reject
from tests.workers.engines import CANARY
from workers.places import wording


def ours() -> None:
    raise Reject("decode", "3 bytes")


def librarys() -> None:
    raise ValueError(CANARY)


def systems() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/home/canary")


def imports() -> None:
    importlib.import_module("not_there_at_all")


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (ours, r"Reject: decode: 3 bytes"),
        (librarys, r"ValueError at test_places\.py:\d+ librarys < test_places\.py:\d+ test_[a-z_]+"),
        (systems, r"PermissionError at test_places\.py:\d+ systems < .*: Permission denied"),
        (imports, r"ModuleNotFoundError at .*: not_there_at_all"),
    ],
)
def test_ours_in_full_and_others_by_type_and_place(fails: Callable[[], None], told: str) -> None:
    try:
        fails()
    except (Reject, ValueError, OSError, ImportError) as error:
        said = wording(error)
    assert re.fullmatch(told, said)
