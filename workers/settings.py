"""Every setting of a worker, read once at start from the environment or a file and passed down as plain values.

In: `EUREKA_*` variables, a `.env` file (path in `EUREKA_ENV_FILE`), one file per secret (folder in
`EUREKA_SECRETS_DIR`). Out: one frozen `Settings`. It knows nothing of the parts it configures; each queue,
buffer, retry and wait has its limit here. Invariant: secrets live in `SecretStr` and appear in no repr, log
line or error message.
"""

import difflib
import ipaddress
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as NotReadable

from streams.topics import Topics

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Consent = Literal["all", "marked"]
MESSAGE_FRAME_BYTES = 65536  # headers, framing and the fields of a result, on top of the audio
MOST_DAYS = 1_000_000  # of an age: PostgreSQL knows no day before 4713 BC


class ChatEndpoint(BaseModel):
    """An OpenAI-compatible endpoint: a role of `eureka dataflux run`, a judge; as JSON in its variable or file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(
        pattern=r"^https?://[^\s@?#]+$"
    )  # ends before /chat/completions; a key has its own place
    model: str = Field(min_length=1)
    key: SecretStr | None = None
    timeout_s: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=6, ge=1)
    retry_first_s: float = Field(default=1.0, ge=0)
    retry_max_s: float = Field(default=60.0, ge=0)
    max_tokens: int = Field(default=1024, ge=16)
    temperature: float = Field(default=0.0, ge=0)


class Settings(BaseSettings):
    """All settings; units are in the names. `load_settings` reads them; tests may construct it directly."""

    model_config = SettingsConfigDict(
        env_prefix="EUREKA_", frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    # database
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("EUREKA_DATABASE_URL", "DATABASE_URL")
    )
    database_pool_size: int = Field(default=4, ge=1)
    database_attempts: int = Field(default=10, ge=1)
    assign_timeout_s: float = Field(default=30.0, gt=0)

    # broker
    brokers: str = "127.0.0.1:9092"
    group_id: str = "eureka-stream"
    topic_prefix: str = ""
    chunk_partitions: int = Field(default=8, ge=1)
    result_partitions: int = Field(default=8, ge=1)
    replication_factor: int = Field(default=1, ge=1)
    broker_attempts: int = Field(default=10, ge=1)
    broker_retry_s: float = Field(default=1.0, gt=0)
    request_timeout_s: float = Field(default=40.0, gt=0)
    session_timeout_s: float = Field(default=10.0, gt=0)
    heartbeat_interval_s: float = Field(default=3.0, gt=0)
    rebalance_timeout_s: float = Field(default=30.0, gt=0)
    commit_interval_s: float = Field(default=5.0, gt=0)
    producer_idempotence: bool = True
    producer_batch_bytes: int = Field(default=65536, ge=1)
    publish_timeout_s: float = Field(default=30.0, gt=0)
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_check_hostname: bool = True

    # what a chunk may be
    tenant_default: str = "default"
    max_chunk_bytes: int = Field(default=1 << 20, ge=1)
    max_decoded_bytes: int = Field(default=16 << 20, ge=1)
    max_chunk_s: float = Field(default=30.0, gt=0)
    dead_letter_payload_bytes: int = Field(default=64 << 10, ge=0)

    # order, buffers and waits
    reorder_wait_s: float = Field(default=1.0, ge=0)
    reorder_max_held: int = Field(default=64, ge=1)
    reorder_max_bytes: int = Field(default=16 << 20, ge=1)
    max_sequence_jump: int = Field(
        default=10_000, ge=1
    )  # a chunk further ahead counts once another follows it
    max_jump_s: float = Field(default=6 * 3600.0, gt=0)  # the same for its place in the session
    jump_wait_s: float = Field(default=60.0, gt=0)
    max_sessions: int = Field(default=10_000, ge=1)  # open in one process
    max_held_bytes: int = Field(default=1 << 30, ge=1)  # by all of them together
    idle_flush_s: float = Field(default=10.0, gt=0)
    max_inflight_windows: int = Field(default=64, ge=1)
    max_uncommitted_records: int = Field(default=1000, ge=1)
    live_lag_records: int = Field(default=200, ge=0)
    speech_deadline_s: float = Field(default=2.0, gt=0)
    scene_deadline_s: float = Field(default=10.0, gt=0)
    # scenes of a backlog that are read later than that after they had come are left out; None: all are analysed
    shed_scenes_after_s: float | None = Field(default=None, gt=0)
    fetch_buffer_records: int = Field(default=64, ge=2)
    tick_interval_s: float = Field(default=0.2, gt=0)
    highwater_max_age_s: float = Field(default=5.0, gt=0)
    sweep_interval_s: float = Field(default=5.0, gt=0)
    sweep_older_than_s: float = Field(default=5.0, ge=0)
    sweep_limit: int = Field(default=500, ge=1)
    retry_first_s: float = Field(default=0.2, gt=0)
    retry_max_s: float = Field(default=5.0, gt=0)
    drain_grace_s: float = Field(default=20.0, ge=0)
    stop_limit_s: float = Field(
        default=10.0, gt=0
    )  # after the grace: to leave the group and close everything
    stall_after_s: float = Field(default=300.0, gt=0)  # work waits and nothing moves: the process ends

    # health endpoint
    health_host: str = "127.0.0.1"
    health_port: int | None = Field(default=None, ge=0, le=65535)  # None: no endpoint; 0: any free port
    # asked for as a bearer token; beyond loopback there must be one
    health_token: SecretStr | None = Field(default=None, min_length=16)
    health_silence_s: float = Field(default=30.0, gt=0)  # of the database or of the loop, before it is told

    # how long rows are kept, in days; not set: for ever (`eureka retention` deletes)
    retention_days_transcripts: float | None = Field(default=None, gt=0, le=MOST_DAYS)
    retention_days_captions: float | None = Field(default=None, gt=0, le=MOST_DAYS)
    retention_days_events: float | None = Field(default=None, gt=0, le=MOST_DAYS)
    retention_days_alerts: float | None = Field(default=None, gt=0, le=MOST_DAYS)
    retention_days_dead_letters: float | None = Field(default=None, gt=0, le=MOST_DAYS)
    retention_days_sessions: float | None = Field(
        default=None, ge=1, le=MOST_DAYS
    )  # after the last that was stored of one; with its positions, gaps, duplicates and stream
    retention_batch_rows: int = Field(default=1000, ge=1, le=10_000)
    retention_interval_s: float = Field(default=3600.0, gt=0)

    # windows
    vad_mode: int = Field(default=2, ge=0, le=3)
    pre_roll_ms: int = Field(default=300, ge=0)
    hang_ms: int = Field(default=500, ge=0)
    post_roll_ms: int = Field(default=200, ge=0)
    min_speech_ms: int = Field(default=200, ge=0)
    max_window_s: float = Field(default=30.0, ge=2, le=30)
    silence_step_s: float = Field(default=5.0, ge=1)
    scene_hop_s: float = Field(default=10.0, ge=1, le=30)
    scene_min_s: float = Field(default=1.0, ge=0.1)
    warm_up_s: float = Field(default=1.0, ge=0)
    slack_ms: int = Field(default=100, ge=100)

    # engine
    checkpoint: Path = Path(__file__).parents[1] / "model" / "checkpoints" / "nano.safetensors"
    device: str = "auto"
    engine_factory: str = "model.engine:Engine.open"  # import path; another one only in tests of faults
    engine_args: dict[str, str | int | float | bool | None] | None = (
        None  # None: the checkpoint and its options
    )
    engine_processes: int = Field(default=1, ge=1)
    engine_threads: int = Field(default=1, ge=1)
    engine_compile: bool = True  # where it pays, on a GPU; False turns it off everywhere
    engine_short_buckets: bool = (
        False  # no padding to 30 s, for a checkpoint that wants it; its texts may change
    )
    engine_half: bool = True  # bf16 products on a CPU that has instructions for them; False: fp32
    engine_sha256: str | None = None  # the checkpoint must have this digest
    trust_remote_code: bool = False
    # where `eureka checkpoint promote` puts weights; what is promoted there goes before `checkpoint`
    checkpoints_dir: Path | None = None
    checkpoint_poll_s: float = Field(default=5.0, gt=0)  # how often a worker looks for a promotion
    checkpoint_attempts: int = Field(
        default=5, ge=1
    )  # to swap to the same promotion, each with `engine_starts`
    checkpoint_retry_s: float = Field(default=10.0, gt=0)  # before the second attempt; doubled after each
    # beside: both processes for the time of the warm-up; after: the old one ends first, windows wait meanwhile
    checkpoint_swap: Literal["beside", "after"] = "beside"
    gate_wer_margin: float = Field(
        default=0.02, ge=0, le=1
    )  # how much worse a checkpoint may be, as a fraction
    gate_scene_margin: float = Field(default=0.05, ge=0, le=1)
    engine_deadline_s: float = Field(default=30.0, gt=0)
    engine_warm_up_s: float = Field(default=300.0, gt=0)
    engine_max_queued: int = Field(default=512, ge=1)
    engine_max_batch: int = Field(default=64, ge=1)  # windows under way at a time; an engine may want fewer
    engine_background_share: float = Field(default=0.75, gt=0, le=1)  # of those, for scenes and backfill
    engine_starts: int = Field(default=3, ge=1)

    # evaluation: who answers questions from captions (eureka evaluate choices, paper)
    evaluate_judge: ChatEndpoint | None = None

    # DataFlux: who fills which role; not set: local, without a network
    dataflux_captioner: ChatEndpoint | None = None
    dataflux_writer: ChatEndpoint | None = None
    dataflux_answerers: tuple[ChatEndpoint, ...] = ()
    dataflux_judge: ChatEndpoint | None = None
    # whose audio may be taken for training: tenant → all, or only sessions marked with the header ce_consent=training
    harvest_consent: dict[str, Consent] = Field(default_factory=dict)
    harvest_keep_days: float = Field(default=90.0, gt=0)  # then a harvested recording is deleted

    # telemetry
    otel_exporter: Literal["none", "console", "otlp"] = "none"
    otel_endpoint: str | None = None
    otel_interval_s: float = Field(default=10.0, gt=0)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heartbeat_interval_s * 3 > self.session_timeout_s:
            raise ValueError("heartbeat_interval_s must be at most a third of session_timeout_s")
        if self.session_timeout_s > self.request_timeout_s:
            raise ValueError("session_timeout_s must not exceed request_timeout_s")
        if self.assign_timeout_s >= self.request_timeout_s:
            raise ValueError("assign_timeout_s must be below request_timeout_s")
        if self.stall_after_s <= 2 * max(self.request_timeout_s, self.rebalance_timeout_s):
            raise ValueError(
                "stall_after_s must be more than twice request_timeout_s and rebalance_timeout_s"
            )
        if self.health_port is not None and not (self.health_token or is_loopback(self.health_host)):
            raise ValueError("health_host is not loopback: that needs a health_token")
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                "security_protocol %s needs sasl_username and sasl_password" % self.security_protocol
            )
        try:
            self.ssl_context()
        except OSError as error:  # of which ssl.SSLError is one
            files = "tls_ca_file, tls_cert_file or tls_key_file"
            raise ValueError(
                "%s cannot be used: %s" % (files, error.strerror or type(error).__name__)
            ) from None
        return self

    @property
    def topics(self) -> Topics:
        """The topic names, with the prefix of this deployment."""
        return Topics.with_prefix(self.topic_prefix)

    @property
    def broker_list(self) -> list[str]:
        """`host:port` of each bootstrap broker."""
        return [part.strip() for part in self.brokers.split(",") if part.strip()]

    @property
    def max_message_bytes(self) -> int:
        """The largest message on a topic: of a chunk, or of the dead letter that keeps one."""
        return max(self.max_chunk_bytes + MESSAGE_FRAME_BYTES, self.max_dead_letter_bytes)

    @property
    def max_dead_letter_bytes(self) -> int:
        """The largest dead letter: what it keeps of a chunk is in base64."""
        return 4 * -(-self.dead_letter_payload_bytes // 3) + MESSAGE_FRAME_BYTES

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context of the broker connection, None without TLS. Raises OSError for unreadable files."""
        if not self.security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=str(self.tls_ca_file) if self.tls_ca_file else None)
        context.check_hostname = self.tls_check_hostname
        if self.tls_cert_file is not None:
            key = str(self.tls_key_file) if self.tls_key_file else None
            # with a password, a locked key is an error; without one OpenSSL asks for it on the terminal and waits
            context.load_cert_chain(str(self.tls_cert_file), key, password=b"")
        return context


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SettingsError(Exception):
    """The settings do not make sense; the message names each field and what is wrong with it, never its value."""


def load_settings(**overrides: Any) -> Settings:
    """Read the environment, the file in `EUREKA_ENV_FILE` (or `.env`) and `EUREKA_SECRETS_DIR`; `overrides` win.

    Raises SettingsError.
    """
    named = os.environ.get("EUREKA_ENV_FILE")
    if named and not Path(named).exists():
        raise SettingsError("EUREKA_ENV_FILE: %s is not there" % named)
    secrets = os.environ.get("EUREKA_SECRETS_DIR") or None  # an empty one would be the working directory
    if secrets is not None and not Path(secrets).is_dir():
        raise SettingsError(
            "EUREKA_SECRETS_DIR: %s %s"
            % (secrets, "is no folder" if Path(secrets).exists() else "is not there")
        )
    sources: dict[str, Any] = {
        "_env_file": os.environ.get("EUREKA_ENV_FILE", ".env"),
        "_secrets_dir": secrets,
    }
    try:
        return Settings(**sources, **overrides)
    except ValidationError as error:
        lines = ["%s: %s" % (".".join(map(str, e["loc"])) or "settings", e["msg"]) for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    except NotReadable as error:  # JSON was wanted, and it says which setting's, never the value
        raise SettingsError(str(error)) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """`EUREKA_*` variables that name no setting, each with the nearest setting's: most are slips of the keyboard.

    Not an error: a cluster may put variables of its own there (a service named `eureka` does so on Kubernetes).
    """
    known = {"EUREKA_" + name.upper() for name in Settings.model_fields} | {
        "EUREKA_ENV_FILE",
        "EUREKA_SECRETS_DIR",
        "EUREKA_KAFKA_JARS",  # of deploy/kafka/run.sh
    }
    found = []
    for name in sorted(set(environment) - known):
        if name.startswith("EUREKA_"):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found.append("%s (did you mean %s?)" % (name, near[0]) if near else name)
    return found


def kafka_security(settings: Settings) -> dict[str, Any]:
    """Security arguments shared by aiokafka and kafka-python clients (both use these names)."""
    security: dict[str, Any] = {"security_protocol": settings.security_protocol}
    context = settings.ssl_context()
    if context is not None:
        security["ssl_context"] = context
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password
        security["sasl_mechanism"] = settings.sasl_mechanism
        security["sasl_plain_username"] = settings.sasl_username
        security["sasl_plain_password"] = password.get_secret_value() if password is not None else ""
    return security
