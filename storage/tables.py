"""The tables as SQLAlchemy sees them; the migrations make them (a test holds the two equal).

Result tables carry the fields of the wire contract, so an unsent row becomes its message again, plus `id`
(the order of commits, which is stream order), `created_at` (the database's clock) and `published_at` (null
until the topic has it). Constraints that only the database needs to know (no-overlap, checks) stand in the
migrations alone.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

METADATA = MetaData()
VERSION_TABLE = "eureka_schema_version"
SESSION = ("tenant_id", "stream_id", "session_id")
# With start_sample: one chunk may hold two windows of a track that both end as dead letters.
DEAD_LETTER_KEY = ("topic", "partition", "generation", "offset", "channel", "track", "start_sample")


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null, primary_key=key)


def _whole(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=null, primary_key=key, autoincrement=False)


def _long(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, primary_key=key, autoincrement=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _real(name: str) -> Column[float]:
    return Column(name, Double, nullable=True)


def _json(name: str, *, null: bool = True) -> Column[Any]:
    return Column(name, JSONB(none_as_null=True), nullable=null)


def _now(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _then(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=True)


def _row_id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _session(*, key: bool = False) -> list[Column[str]]:
    return [_text(name, key=key) for name in SESSION]


PARTITIONS = Table(
    "partitions",
    METADATA,
    _text("topic", key=True),
    _whole("partition", key=True),
    _long("epoch"),  # bumped at each assignment; a write that names an older one changes nothing
    _long("next_offset", null=True),  # lowest offset that any track of any session still needs
    _text("cluster_id"),
    Column(
        "generation",
        Integer,
        nullable=False,
        comment="counts the times the broker lost this partition and began to give out its offsets anew",
    ),
    _now("updated_at"),
)
LOST_RANGES = Table(
    "lost_ranges",
    METADATA,
    _row_id(),
    _text("topic"),
    _whole("partition"),
    _long("first_offset"),
    _long("end_offset", null=True),  # exclusive; null: unknown, the broker that knew is gone
    _text("reason"),
    _text("old_cluster_id"),
    _text("new_cluster_id"),
    _now("created_at"),
)
STREAMS = Table(
    "streams",
    METADATA,
    _text("tenant_id", key=True),
    _text("stream_id", key=True),
    _text("topic", key=True),
    _whole("partition"),
    _text("cluster_id"),  # the binding holds for this cluster; on another one the stream is bound anew
    _now("created_at"),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    *_session(key=True),
    _text("topic"),
    _whole("partition"),
    _whole("channels", null=True),
    _whole("rate", null=True),
    Column("roles", ARRAY(Text), nullable=True),
    _text("source", null=True),
    _long("resume_sequence"),
    _long("resume_offset"),
    _long("seen_offset"),
    _flag("ended"),
    _now("created_at"),
    _now("updated_at"),
    Index("sessions_by_partition", "topic", "partition"),
)
PROGRESS = Table(
    "progress",
    METADATA,
    *_session(key=True),
    _whole("channel", key=True),  # -1: the whole session (dialog)
    _text("track", key=True),
    _long("sample"),
    _long("run_start"),
    _flag("in_speech"),
    _now("updated_at"),
)
GAPS = Table(
    "gaps",
    METADATA,
    _row_id(),
    *_session(),
    _long("first_sequence", null=True),
    _long("last_sequence", null=True),
    _long("start_sample"),
    _long("end_sample"),
    _now("created_at"),
    Index(
        "gaps_once",
        *SESSION,
        "start_sample",
        "end_sample",
        "first_sequence",
        "last_sequence",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    Index("gaps_by_sequence", *SESSION, "last_sequence"),
)
DUPLICATES = Table(
    "duplicates",
    METADATA,
    _text("topic", key=True),
    _whole("partition", key=True),
    _whole("generation", key=True),
    _long("offset", key=True),
    *_session(),
    _long("sequence"),
    _now("created_at"),
)


def _results(name: str, *columns: Column[Any], session_wide: bool) -> Table:
    """A table of results about [start_sample, end_sample) of a channel; session_wide: channel may be null."""
    return Table(
        name,
        METADATA,
        _row_id(),
        Column("ce_id", Text, nullable=False, unique=True),
        *_session(),
        _whole("channel", null=session_wide),
        _text("participant_role", null=True),
        _text("segment_id"),
        _whole("revision"),
        _text("run_id"),
        _long("start_sample"),
        _long("end_sample"),
        _long("start_ms"),
        _long("end_ms"),
        *columns,
        *_handed_over(),
        _unsent_index(name),
        _age_index(name),
        Index(f"{name}_by_session", *SESSION, "end_sample"),
    )


def _handed_over() -> list[Column[Any]]:
    return [_text("traceparent", null=True), _now("created_at"), _then("published_at")]


def _unsent_index(name: str) -> Index:
    """Small whatever the table's size: it holds only what no topic has yet, in stream order."""
    return Index(f"{name}_unsent", "id", postgresql_where=text("published_at IS NULL"))


def _age_index(name: str) -> Index:
    """Rows lie in the table in about the order of their age: a summary of each block is enough to find the old ones."""
    return Index(f"{name}_by_age", "created_at", postgresql_using="brin")


TRANSCRIPTS = _results(
    "transcripts",
    _flag("is_final"),
    _text("text"),
    _text("language", null=True),
    _real("confidence"),
    _real("stability"),
    _json("words"),
    _text("timing_source", null=True),
    _json("model", null=False),
    session_wide=False,
)
CAPTIONS = _results(
    "captions",
    _text("text"),
    _text("language", null=True),
    _real("confidence"),
    _json("model", null=False),
    session_wide=False,
)
EVENTS = _results(
    "events",
    _text("event_type"),
    _text("label"),
    _real("confidence"),
    _real("value"),
    _text("unit", null=True),
    _text("source"),
    _json("model"),
    session_wide=True,
)
ALERTS = _results(
    "alerts",
    _text("rule_id"),
    _text("category"),
    _flag("negate"),
    _json("matches", null=False),
    session_wide=True,
)
DEAD_LETTERS = Table(
    "dead_letters",
    METADATA,
    _row_id(),
    _text("topic"),
    _whole("partition"),
    _whole("generation"),
    _long("offset"),
    _whole("channel", null=True),
    _text("track", null=True),
    _long("start_sample", null=True),
    _long("end_sample", null=True),
    _long("start_ms", null=True),
    _long("end_ms", null=True),
    _text("reason"),
    _text("detail"),
    *[_text(name, null=True) for name in SESSION],
    _text("content_type", null=True),
    _text("payload_b64", null=True),
    _long("payload_size_bytes", null=True),
    *_handed_over(),
    _unsent_index("dead_letters"),
    _age_index("dead_letters"),
    Index("dead_letters_by_tenant", "tenant_id", "stream_id"),
    Index(
        "dead_letters_once",
        *DEAD_LETTER_KEY,
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
)
REQUEUES = Table(
    "requeues",
    METADATA,
    Column(
        "letter_id",
        BigInteger,
        ForeignKey("dead_letters.id", name="requeues_of_letter", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _whole("attempt", key=True),
    _text("session_id", null=True),  # of its own, where its turn in the first one has passed
    _text("actor"),
    _now("claimed_at"),
    _then("done_at"),
)
ERASED = Table(
    "erased",
    METADATA,
    Column(
        "scope",
        Text,
        primary_key=True,
        comment="SHA-256 of a tenant, or of a tenant and a stream, whose records below end_offset are not read again",
    ),
    _text("topic", key=True),
    _whole("partition", key=True),
    _whole("generation"),
    _long("end_offset"),
    _flag("home"),  # the stream of this scope is read from this partition
    _now("created_at"),
)
ERASURES = Table(
    "erasures",
    METADATA,
    _row_id(),
    _text("scope"),  # "tenant" or "stream", never which one
    _json("rows_deleted"),
    _now("created_at"),
    _then("finished_at"),
)
REPLAYS = Table(
    "replays",
    METADATA,
    _text("tenant_id", key=True),
    _text("run_id", key=True),
    _text("stream_id"),
    _text("session_id", null=True),
    _text("topic"),
    _whole("partition"),
    _whole("generation"),
    _long("first_offset"),
    _long("end_offset"),
    _text("asked"),  # the range as it was asked for: the same run id asks for the same
    _now("created_at"),
    _then("finished_at"),
)
