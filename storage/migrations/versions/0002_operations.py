"""Operations: requeued dead letters, erasures and the fences they leave, replays; indexes for deletion and restarts.

It only adds: every row of the first schema stays as it is. Requeues go with their dead letter, so that no deletion of
one leaves the name of a session behind.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = [
    """CREATE TABLE requeues (
        letter_id bigint NOT NULL CONSTRAINT requeues_of_letter REFERENCES dead_letters (id) ON DELETE CASCADE,
        attempt integer NOT NULL,
        session_id text,
        actor text NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT now(),
        done_at timestamptz,
        PRIMARY KEY (letter_id, attempt))""",
    """CREATE TABLE erased (
        scope text NOT NULL,
        topic text NOT NULL,
        "partition" integer NOT NULL,
        generation integer NOT NULL,
        end_offset bigint NOT NULL,
        home boolean NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (scope, topic, "partition"))""",
    """COMMENT ON COLUMN erased.scope IS
        'SHA-256 of a tenant, or of a tenant and a stream, whose records below end_offset are not read again'""",
    """CREATE TABLE erasures (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        scope text NOT NULL,
        rows_deleted jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz)""",
    """CREATE TABLE replays (
        tenant_id text NOT NULL,
        run_id text NOT NULL,
        stream_id text NOT NULL,
        session_id text,
        topic text NOT NULL,
        "partition" integer NOT NULL,
        generation integer NOT NULL,
        first_offset bigint NOT NULL,
        end_offset bigint NOT NULL,
        asked text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        PRIMARY KEY (tenant_id, run_id))""",
]
INDEXES = [
    "CREATE INDEX dead_letters_by_tenant ON dead_letters (tenant_id, stream_id)",
    "CREATE INDEX gaps_by_sequence ON gaps (tenant_id, stream_id, session_id, last_sequence)",
    *[
        f"CREATE INDEX {table}_by_age ON {table} USING brin (created_at)"
        for table in ("transcripts", "captions", "events", "alerts", "dead_letters")
    ],
]


def upgrade() -> None:
    for statement in [*TABLES, *INDEXES]:
        op.execute(statement)
