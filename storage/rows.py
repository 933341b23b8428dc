"""Message ↔ row. A message of `streams.messages` comes in and the columns of its table go out, and the other
way round.

It knows no SQL and no connection. Invariant: `message_of(row_of(message))` equals the message, so what the
sweep sends later is byte for byte what would have been sent at once.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Table

from storage import tables
from streams.messages import Alert, Caption, DeadLetter, Event, Message, Transcript

TABLE_OF: dict[type[Message], Table] = {
    Transcript: tables.TRANSCRIPTS,
    Caption: tables.CAPTIONS,
    Event: tables.EVENTS,
    Alert: tables.ALERTS,
    DeadLetter: tables.DEAD_LETTERS,
}


def row_of(message: Message) -> dict[str, Any]:
    """The columns of the message's table that the message decides (plus `ce_id`, where the table has one)."""
    row = {name: _plain(getattr(message, name)) for name in type(message).model_fields}
    if not isinstance(message, DeadLetter):
        row["ce_id"] = message.ce_id
    return row


def message_of(kind: type[Message], row: Mapping[Any, Any]) -> Message:
    """The message that `row` was made of; columns the message does not know are ignored."""
    return kind.model_validate({name: row[name] for name in kind.model_fields})


def _plain(value: object) -> object:
    """Nested models become JSON objects; everything else is what the driver takes."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
