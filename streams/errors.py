"""Every way in which the system says no, in one tree.

    Exception
    └── EurekaError
        ├── Reject        bad input: this record or chunk becomes a dead letter, its neighbours go on
        ├── Unavailable   a lost dependency (broker, database): bounded retry, consumption pauses meanwhile
        ├── NotAllowed    the database's role has no right to what was asked of it
        └── Fenced        a newer epoch owns the partition: drop its state, write nothing

Anything else is a defect: it ends the process and the supervisor restarts it.
"""

from __future__ import annotations

from typing import Final

REJECT_REASONS: Final = frozenset(
    {
        "schema",
        "missing_header",
        "unsupported_version",
        "codec",
        "decode",
        "truncated",
        "too_large",
        "rate",
        "format_changed",
        "overlap",
        "sequence_reset",
        "sequence_jump",
        "far_ahead",
        "after_end",
        "late",
        "wrong_partition",
        "poison",
    }
)


class EurekaError(Exception):
    """Root of the tree in the module docstring."""


class Reject(EurekaError):
    """Bad input. `reason` is one of REJECT_REASONS; `detail` is for people and holds no audio and no text."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REJECT_REASONS:
            raise ValueError(f"unknown reject reason {reason!r}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unavailable(EurekaError):
    """A dependency does not answer; the same call may succeed later."""


class NotAllowed(EurekaError):
    """The role that the database URL names may not do this; says what."""


class Fenced(EurekaError):
    """The write carried a stale epoch and changed nothing."""
