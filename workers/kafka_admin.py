"""Creates and checks the topics, and says whether the broker is there.

In: settings. Out: topics, or a list of what is wrong with them. Does not know what flows through them.
Invariant: an existing topic is never changed: a partition count that changed would send streams to other
partitions than the store remembers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAlreadyExistsError, for_code

from streams.errors import Unavailable
from workers.broker_trouble import Denied, explained
from workers.settings import MESSAGE_FRAME_BYTES, Settings, kafka_security

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TopicState:
    """What the broker has: `partitions` is 0 for a missing topic, `max_message_bytes` None where it does not tell."""

    name: str
    partitions: int
    expected_partitions: int
    max_message_bytes: int | None
    problem: str | None


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; return their names. Raises Unavailable."""

    async def create(admin: AIOKafkaAdminClient) -> list[str]:
        present = await admin.list_topics()
        created = []
        for name, partitions in _wanted(settings).items():
            if name in present:
                continue
            limit = {"max.message.bytes": str(settings.max_message_bytes)}
            topic = NewTopic(name, partitions, settings.replication_factor, topic_configs=limit)
            response = await admin.create_topics([topic])
            for _, code, *_ in response.topic_errors:
                if code == 0:
                    created.append(name)
                elif (
                    code != TopicAlreadyExistsError.errno
                ):  # a broker may list a topic a while after it was made
                    raise Unavailable("topic %s not created: %s" % (name, for_code(code).__name__))
        return created

    return await _with_admin(settings, create)


async def check_topics(settings: Settings) -> list[TopicState]:
    """Compare every topic with the settings. Raises Unavailable when the broker does not answer."""

    async def check(admin: AIOKafkaAdminClient) -> list[TopicState]:
        wanted = _wanted(settings)
        present = {t["topic"]: len(t["partitions"]) for t in await _describe(admin, list(wanted))}
        limits = await _limits(admin, [name for name in wanted if present.get(name)])
        needed = {
            settings.topics.chunks: ("chunks", settings.max_chunk_bytes + MESSAGE_FRAME_BYTES),
            settings.topics.deadletters: ("dead letters", settings.max_dead_letter_bytes),
        }
        states = []
        for name, expected in wanted.items():
            partitions, limit = present.get(name, 0), limits.get(name)
            what, least = needed.get(name, ("", 0))
            problem = None
            if not partitions:
                problem = "missing: run `eureka topics create`"
            elif partitions != expected:
                problem = (
                    "has %d partitions, expected %d: streams would move between partitions; "
                    "drain it and switch to a new topic" % (partitions, expected)
                )
            elif limit is not None and limit < least:
                problem = "max.message.bytes is %d, %s need %d" % (limit, what, least)
            states.append(TopicState(name, partitions, expected, limit, problem))
        return states

    return await _with_admin(settings, check)


async def topic_retention(settings: Settings) -> dict[str, int | None]:
    """Per topic that is there, `retention.ms` as the broker tells it: -1 keeps for ever, None where it does not tell.

    Raises Unavailable.
    """

    async def ask(admin: AIOKafkaAdminClient) -> dict[str, int | None]:
        present = set(await admin.list_topics())
        names = [name for name in _wanted(settings) if name in present]
        kept = await _limits(admin, names, "retention.ms")
        return {name: kept.get(name) for name in names}

    return await _with_admin(settings, ask)


async def wait_for_broker(settings: Settings) -> str:
    """Wait, for a bounded number of attempts, until a broker answers; return the cluster id.

    Raises Unavailable; of which Denied at once.
    """

    async def cluster_id(admin: AIOKafkaAdminClient) -> str:
        found = str((await admin.describe_cluster()).get("cluster_id") or "")
        await _see_group(admin, settings.group_id)
        return found

    for attempt in range(1, settings.broker_attempts + 1):
        try:
            return await _with_admin(settings, cluster_id)
        except Denied:
            raise
        except Unavailable as error:
            if attempt == settings.broker_attempts:
                raise Unavailable(
                    "%s; gave up after %d %s" % (error, attempt, "attempt" if attempt == 1 else "attempts")
                ) from None
            log.warning("waiting for the broker", extra={"attempt": attempt, "reason": str(error)})
            await asyncio.sleep(settings.broker_retry_s)
    raise AssertionError("broker_attempts is at least 1")


async def _see_group(admin: AIOKafkaAdminClient, group_id: str) -> None:
    """A consumer that may not join its group would ask for it for ever, and say nothing."""
    try:
        await admin.find_coordinator(group_id)
    except GroupAuthorizationFailedError:
        raise Denied("the broker refuses us the group %s" % group_id) from None
    except KafkaError as error:  # a young broker has no coordinator yet; the consumer waits for one
        log.info("group not seen", extra={"reason": type(error).__name__})


def _wanted(settings: Settings) -> dict[str, int]:
    topics = settings.topics
    return {topics.chunks: settings.chunk_partitions} | dict.fromkeys(
        topics.outputs, settings.result_partitions
    )


async def _with_admin(settings: Settings, call: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.broker_list, client_id="eureka-admin", **kafka_security(settings)
    )
    try:
        await admin.start()
        return await call(admin)
    except (KafkaError, OSError) as error:
        raise await explained(settings, error) from None
    finally:
        await admin.close()


async def _describe(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    present = await admin.list_topics()  # asking for a missing topic by name could create it
    wanted = [name for name in names if name in present]
    return list(await admin.describe_topics(wanted)) if wanted else []


async def _limits(
    admin: AIOKafkaAdminClient, names: list[str], setting: str = "max.message.bytes"
) -> dict[str, int]:
    limits: dict[str, int] = {}
    if not names:
        return limits
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        responses = await admin.describe_configs(resources)
    except KafkaError as error:  # the embedded broker does not answer this
        log.info("topic limits unknown", extra={"reason": type(error).__name__})
        return limits
    for response in responses:
        for _, _, _, name, entries in response.resources:
            for entry in entries:
                if entry[0] == setting and entry[1]:
                    limits[name] = int(entry[1])
    return limits
