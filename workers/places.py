"""Where an exception comes from, and nothing of what it says: its text may quote what was spoken.

In: an exception. Out: its type and the places it passed, innermost first. Knows no logging. Invariant: no value of a
variable, no folder and, but for errors worded by us, no text of the exception is in what comes out.
"""

import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType

OURS = (
    "model",
    "storage",
    "streams",
    "workers",
)  # packages whose own errors are worded here, and hold no text


def places(passed: TracebackType | None) -> list[str]:
    """`file:line function` of each frame, innermost first."""
    frames: Iterable[traceback.FrameSummary] = reversed(traceback.extract_tb(passed))
    return ["%s:%d %s" % (f.filename.rsplit("/", 1)[-1], f.lineno or 0, f.name) for f in frames]


def whereabouts(error: BaseException) -> str:
    """Type and places, for one line of a log."""
    return "%s at %s" % (type(error).__name__, " < ".join(places(error.__traceback__)) or "no place")


def wording(error: BaseException) -> str:
    """What may be told of an error: all of one that is worded in our code, of another its type and place.

    Of what the operating system says its own words (`strerror`), not the file; of a failed import the module's name.
    """
    if type(error).__module__.partition(".")[0] in OURS:
        return "%s: %s" % (type(error).__name__, error)
    if isinstance(error, OSError) and error.strerror:
        return "%s: %s" % (whereabouts(error), error.strerror)
    if isinstance(error, ImportError) and error.name:
        return "%s: %s" % (whereabouts(error), error.name)
    return whereabouts(error)


def tell_uncaught(tell: Callable[[str], None]) -> None:
    """Have what nobody catches, in any thread or destructor, told by `tell`; Python itself would print its text."""

    def ended(place: str, error: BaseException | None) -> None:
        if error is not None:
            tell("%s ended by %s" % (place, whereabouts(error)))

    sys.excepthook = lambda _, error, __: ended("process", error)
    threading.excepthook = lambda seen: ended("thread", seen.exc_value)
    sys.unraisablehook = lambda seen: ended("destructor", seen.exc_value)
