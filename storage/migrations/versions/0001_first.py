"""The first schema: progress, bookkeeping and results.

No foreign keys: retention may later delete old rows of any table on its own. Result tables hold the fields of
the wire contract, so that an unsent row becomes its message again, plus `id` (commit order), `created_at` and
`published_at`.
"""

from alembic import op

revision = "0001"
down_revision = None

PROGRESS = [
    """CREATE TABLE partitions (
        topic text NOT NULL,
        "partition" integer NOT NULL,
        epoch bigint NOT NULL,
        next_offset bigint,
        cluster_id text NOT NULL,
        generation integer NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (topic, "partition"))""",
    """COMMENT ON COLUMN partitions.generation IS
        'counts the times the broker lost this partition and began to give out its offsets anew'""",
    """CREATE TABLE lost_ranges (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic text NOT NULL,
        "partition" integer NOT NULL,
        first_offset bigint NOT NULL,
        end_offset bigint,
        reason text NOT NULL,
        old_cluster_id text NOT NULL,
        new_cluster_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())""",
    """CREATE TABLE streams (
        tenant_id text NOT NULL,
        stream_id text NOT NULL,
        topic text NOT NULL,
        "partition" integer NOT NULL,
        cluster_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, stream_id, topic))""",
    """CREATE TABLE sessions (
        tenant_id text NOT NULL,
        stream_id text NOT NULL,
        session_id text NOT NULL,
        topic text NOT NULL,
        "partition" integer NOT NULL,
        channels integer,
        rate integer,
        roles text[],
        source text,
        resume_sequence bigint NOT NULL,
        resume_offset bigint NOT NULL,
        seen_offset bigint NOT NULL,
        ended boolean NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, stream_id, session_id))""",
    """CREATE INDEX sessions_by_partition ON sessions (topic, "partition")""",
    """CREATE TABLE progress (
        tenant_id text NOT NULL,
        stream_id text NOT NULL,
        session_id text NOT NULL,
        channel integer NOT NULL,
        track text NOT NULL,
        sample bigint NOT NULL,
        run_start bigint NOT NULL,
        in_speech boolean NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, stream_id, session_id, channel, track))""",
    """CREATE TABLE gaps (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant_id text NOT NULL,
        stream_id text NOT NULL,
        session_id text NOT NULL,
        first_sequence bigint,
        last_sequence bigint,
        start_sample bigint NOT NULL,
        end_sample bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())""",
    """CREATE UNIQUE INDEX gaps_once ON gaps
        (tenant_id, stream_id, session_id, start_sample, end_sample, first_sequence, last_sequence)
        NULLS NOT DISTINCT""",
    """CREATE TABLE duplicates (
        topic text NOT NULL,
        "partition" integer NOT NULL,
        generation integer NOT NULL,
        "offset" bigint NOT NULL,
        tenant_id text NOT NULL,
        stream_id text NOT NULL,
        session_id text NOT NULL,
        sequence bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (topic, "partition", generation, "offset"))""",
]

# The columns every result row begins and ends with.
SPOKEN_BY = """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        ce_id text NOT NULL UNIQUE,
        tenant_id text NOT NULL,
        stream_id text NOT NULL,
        session_id text NOT NULL,
        channel integer {channel_null},
        participant_role text,
        segment_id text NOT NULL,
        revision integer NOT NULL,
        run_id text NOT NULL,
        start_sample bigint NOT NULL,
        end_sample bigint NOT NULL,
        start_ms bigint NOT NULL,
        end_ms bigint NOT NULL,"""
HANDED_OVER = """
        traceparent text,
        created_at timestamptz NOT NULL DEFAULT now(),
        published_at timestamptz"""
NO_OVERLAP = """
        EXCLUDE USING gist (tenant_id WITH =, stream_id WITH =, session_id WITH =, channel WITH =, run_id WITH =,
            revision WITH =, int8range(start_sample, end_sample) WITH &&)"""

RESULTS = [
    f"""CREATE TABLE transcripts ({SPOKEN_BY.format(channel_null="NOT NULL")}
        is_final boolean NOT NULL,
        text text NOT NULL,
        language text,
        confidence double precision,
        stability double precision,
        words jsonb,
        timing_source text,
        model jsonb NOT NULL,{HANDED_OVER},
        CHECK (end_sample > start_sample),
        CONSTRAINT transcripts_no_overlap{NO_OVERLAP})""",
    f"""CREATE TABLE captions ({SPOKEN_BY.format(channel_null="NOT NULL")}
        text text NOT NULL,
        language text,
        confidence double precision,
        model jsonb NOT NULL,{HANDED_OVER},
        CHECK (end_sample > start_sample),
        CONSTRAINT captions_no_overlap{NO_OVERLAP})""",
    f"""CREATE TABLE events ({SPOKEN_BY.format(channel_null="")}
        event_type text NOT NULL,
        label text NOT NULL,
        confidence double precision,
        value double precision,
        unit text,
        source text NOT NULL,
        model jsonb,{HANDED_OVER})""",
    f"""CREATE TABLE alerts ({SPOKEN_BY.format(channel_null="")}
        rule_id text NOT NULL,
        category text NOT NULL,
        negate boolean NOT NULL,
        matches jsonb NOT NULL,{HANDED_OVER})""",
    f"""CREATE TABLE dead_letters (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic text NOT NULL,
        "partition" integer NOT NULL,
        generation integer NOT NULL,
        "offset" bigint NOT NULL,
        channel integer,
        track text,
        start_sample bigint,
        end_sample bigint,
        start_ms bigint,
        end_ms bigint,
        reason text NOT NULL,
        detail text NOT NULL,
        tenant_id text,
        stream_id text,
        session_id text,
        content_type text,
        payload_b64 text,
        payload_size_bytes bigint,{HANDED_OVER})""",
    """CREATE UNIQUE INDEX dead_letters_once ON dead_letters
        (topic, "partition", generation, "offset", channel, track, start_sample) NULLS NOT DISTINCT""",
]


def upgrade() -> None:
    # A trusted extension: the owner of the database may create it, no superuser is needed.
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    for statement in [*PROGRESS, *RESULTS]:
        op.execute(statement)
    for table in ("transcripts", "captions", "events", "alerts", "dead_letters"):
        op.execute(f"CREATE INDEX {table}_unsent ON {table} (id) WHERE published_at IS NULL")
    for table in ("transcripts", "captions", "events", "alerts"):
        op.execute(
            f"CREATE INDEX {table}_by_session ON {table} (tenant_id, stream_id, session_id, end_sample)"
        )
