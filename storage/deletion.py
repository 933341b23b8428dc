"""Deletes rows a bounded number at a time, so that nobody waits for long and a crash loses little.

In: a table and conditions. Out: a statement with the parameter `most`, to be repeated until it deletes nothing. Knows
no table of ours.
"""

from typing import Any

from sqlalchemy import ColumnElement, Delete, Integer, Table, bindparam, delete, func, literal_column, select


def delete_some(table: Table, *conditions: ColumnElement[bool]) -> Delete:
    """Delete at most `most` (a parameter) rows under these conditions, found by where they lie."""
    place: ColumnElement[Any] = literal_column("ctid")
    some = select(place).select_from(table).where(*conditions).limit(bindparam("most", type_=Integer))
    return delete(table).where(place.op("=")(func.any(func.array(some.scalar_subquery()))))
