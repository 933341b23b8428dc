"""How a step of the loop can fail, in one tree.

    Exception
    └── DataFluxError
        ├── Unusable       a model's reply that cannot be used: asked again a few times, then discarded and counted
        ├── Unreachable    an endpoint that gives no reply within its attempts: this clip is left for the next run
        └── Misconfigured  wrong key, address, model or folder: the run stops at once

In: nothing. Out: exceptions. Knows no endpoint. Invariant: no message holds a key, a caption, a question or an answer
of a model; `reply` carries what the model wrote back to the model alone.
"""

from __future__ import annotations

from typing import Final

# Why a reply was not usable; also the reasons under which clips and items are counted as discarded.
UNUSABLE: Final = (
    "refusal",  # the model declines to answer
    "truncated",  # it was cut off at the limit of tokens
    "empty",
    "not_json",  # an object was asked for
    "schema",  # an object, but not the one that was asked for
    "contradiction",  # a verdict whose fields exclude one another
    "no_valid_question",
    "not_protocol",  # the server's reply is no chat completion
    "rejected_by_server",  # this request alone: too long, a format it does not take
    "category_mismatch",  # the caption does not show what the clip was filed under
    "no_category",
    "no_truth",  # a caption that has to be known is not
    "no_audio",
)


class DataFluxError(Exception):
    """Root of the tree in the module docstring."""


class Unusable(DataFluxError):
    """`reason` is one of UNUSABLE. `again`: whether asking once more may help."""

    def __init__(self, reason: str, detail: str = "", *, reply: str = "", again: bool = True) -> None:
        if reason not in UNUSABLE:
            raise ValueError(f"unknown reason {reason!r}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.reply = reply
        self.again = again


class Unreachable(DataFluxError):
    """No reply; the same request may succeed later."""


class Misconfigured(DataFluxError):
    """No request of this run can succeed."""
