"""Waiting for a state, with a bound."""

import time
from collections.abc import Callable

LIMIT_S = 60.0


def until(state: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Look until `state` holds. Raises AssertionError naming `what` after `limit_s`."""
    deadline_s = time.monotonic() + limit_s
    while not state():
        assert time.monotonic() < deadline_s, "not within %g s: %s" % (limit_s, what)
        time.sleep(0.05)
