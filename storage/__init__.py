"""Committed state of the system in PostgreSQL: tables, migrations, the one-transaction sink, read queries."""
