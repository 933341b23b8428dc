"""How the command line shows a value: as a JSON object for machines, as a line for people.

In: dataclasses, pydantic messages, named values. Out: text. It knows nothing of where they come from.
"""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def as_record(item: Any) -> dict[str, Any]:
    """A JSON-able object. Raises TypeError for values that have no fields."""
    if isinstance(item, BaseModel):
        kind = getattr(item, "kind", None)
        return ({} if kind is None else {"type": kind}) | item.model_dump(mode="json")
    if is_dataclass(item) and not isinstance(item, type):
        return {name: _plain(value) for name, value in asdict(item).items()}
    if isinstance(item, Mapping):
        return {str(name): _plain(value) for name, value in item.items()}
    raise TypeError("no fields to print: %r" % type(item))


def as_line(item: Any) -> str:
    """`name value` pairs; a result of the wire is shown as one would read it aloud."""
    record = as_record(item)
    if "start_ms" in record and "stream_id" in record:
        kind = record.get("type")
        return ("" if kind is None else "%-10s " % kind) + result_line(record)
    tables = {name: value for name, value in record.items() if _is_table(value)}
    head = "  ".join("%s %s" % (name, _short(value)) for name, value in record.items() if name not in tables)
    return "\n".join([head, *(line for name, rows in tables.items() for line in _table(name, rows))])


def result_line(fields: Mapping[str, Any]) -> str:
    """A transcript, caption, event, alert or dead letter as one line."""
    start_ms, end_ms = fields["start_ms"], fields["end_ms"]
    place = "%s/%s" % (fields["stream_id"], "-" if fields["channel"] is None else fields["channel"])
    when = (
        "%7.1f-%.1f s" % (start_ms / 1000, end_ms / 1000)
        if start_ms is not None and end_ms is not None
        else ""
    )
    return "%-16s %16s  %s" % (place, when, what(fields))


def what(fields: Mapping[str, Any]) -> str:
    """The content of a result: its words, its label, its reason."""
    if "event_type" in fields:
        value = fields.get("value")
        figure = "" if value is None else " %.3g %s" % (value, fields.get("unit") or "")
        sure = fields.get("confidence")
        label = fields["label"] if fields["label"] != fields["event_type"] else ""
        percent = "" if sure is None else " (%.0f %%)" % (100 * sure)
        return "%s: %s" % (fields["event_type"], (label + figure + percent).lstrip())
    if "reason" in fields:
        return "dead letter: %s (%s)" % (fields["reason"], fields["detail"])
    if "rule_id" in fields:
        return "alert: %s" % fields["rule_id"]
    return str(fields["text"]) or "(no words)"


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(name: str, rows: list[Mapping[str, Any]]) -> list[str]:
    """A list of records as aligned columns, under its name."""
    columns = list(rows[0])
    cells = [columns, *([_short(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return [f"{name}:", *("  " + line for line in lines)]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return "%.4g" % value
    return "-" if value is None else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(inner) for name, inner in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return value
