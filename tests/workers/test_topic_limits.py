"""`check_topics` tells of a topic that was made with a lower limit than the settings need now."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from workers import kafka_admin
from workers.settings import Settings


async def test_a_topic_that_takes_no_dead_letter_of_that_size_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(max_chunk_bytes=1 << 19)
    wanted = kafka_admin._wanted(settings)

    async def with_admin(settings: Settings, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        return await ask(None)

    async def describe(admin: Any, names: list[str]) -> list[dict[str, Any]]:
        return [{"topic": name, "partitions": [0] * wanted[name]} for name in names]

    async def limits(admin: Any, names: list[str]) -> dict[str, int]:
        return dict.fromkeys(names, 1_048_588)  # what a broker gives by default

    for name, stand_in in (("_with_admin", with_admin), ("_describe", describe), ("_limits", limits)):
        monkeypatch.setattr(kafka_admin, name, stand_in)

    async def problems(**changes: int) -> list[str | None]:
        states = await kafka_admin.check_topics(settings.model_copy(update=changes))
        return [state.problem for state in states if state.problem]

    assert await problems() == []
    assert await problems(dead_letter_payload_bytes=1 << 20) == [
        "max.message.bytes is 1048588, dead letters need 1463640"
    ]
    assert await problems(max_chunk_bytes=1 << 20) == ["max.message.bytes is 1048588, chunks need 1114112"]
