"""Alembic's entry: runs the pending migrations on the connection and in the transaction of storage.migrate."""

from alembic import context
from sqlalchemy import Connection

from storage.tables import METADATA, VERSION_TABLE


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=METADATA, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
