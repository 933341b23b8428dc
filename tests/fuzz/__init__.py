"""Fuzzing of what strangers write: the headers of a record, and the bytes of a chunk."""
