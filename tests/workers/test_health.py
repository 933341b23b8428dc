"""What the health endpoint says, to whom, and that `ask_health` understands it; all over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection

import pytest
from pydantic import SecretStr, ValidationError

from streams.errors import Unavailable
from workers.app import EdgeState
from workers.ask import ask_health
from workers.device import DeviceHealth
from workers.health import serve_health
from workers.pool import Health
from workers.settings import Settings
from workers.vitals import Vitals

GOOD = EdgeState(
    rebalancing=False,
    untaken=False,
    taken=("audio.chunks-0",),
    broker_away=False,
    broker_denies=False,
    draining=False,
    ticked_s=0.1,
    stalled_s=0.0,
)
TOKEN = "canary-token-of-the-health-endpoint"


@dataclass
class Parts:
    """A worker in a given state."""

    edge: EdgeState = GOOD
    device: str = "idle"
    failed: str | None = None
    store_answered_s: float = 99.0

    @property
    def warm(self) -> bool:
        return self.device in ("idle", "busy")

    def state(self) -> EdgeState:
        return self.edge

    def health(self) -> Health:
        return Health(0, 0, self.failed, (DeviceHealth("cpu", self.device, 1, 2, 0, 0, 0, "canary detail"),))


def vitals_of(parts: Parts) -> Vitals:
    vitals = Vitals(30.0, clock=lambda: 100.0)
    vitals.serving(parts, parts, parts)
    return vitals


@asynccontextmanager
async def endpoint(vitals: Vitals, token: str | None = None) -> AsyncIterator[Settings]:
    """A running endpoint; the settings with which it can be asked."""
    secret = None if token is None else SecretStr(token)
    settings = Settings(health_port=0, health_token=secret)
    async with AsyncExitStack() as stack:
        port = await serve_health(settings, vitals, stack)
        yield settings.model_copy(update={"health_port": port})


def test_a_worker_that_has_all_it_needs_is_live_and_ready() -> None:
    vitals = vitals_of(Parts())
    assert vitals.live().ok
    assert vitals.ready().ok
    assert vitals.ready().facts["partitions"] == ["audio.chunks-0"]


def test_a_worker_without_a_partition_is_ready() -> None:
    assert vitals_of(Parts(edge=replace(GOOD, taken=()))).ready().ok


@pytest.mark.parametrize(
    ("parts", "reason", "live"),
    [
        (Parts(edge=replace(GOOD, rebalancing=True)), "the group rebalances", True),
        (Parts(edge=replace(GOOD, untaken=True)), "a partition is not taken over yet", True),
        (Parts(edge=replace(GOOD, broker_away=True)), "the broker does not answer", True),
        (
            Parts(edge=replace(GOOD, broker_away=True, broker_denies=True)),
            "the broker does not let us in",
            True,
        ),
        (Parts(edge=replace(GOOD, draining=True)), "draining", True),
        (Parts(edge=replace(GOOD, ticked_s=31.0)), "no tick for 31 s", False),
        (Parts(device="starting"), "no engine process is warm", True),
        (Parts(failed="canary"), "the engine has failed", True),
        (Parts(store_answered_s=69.0), "the database has not answered lately", True),
    ],
)
def test_whatever_is_wrong_is_named(parts: Parts, reason: str, live: bool) -> None:
    vitals = vitals_of(parts)
    assert vitals.ready().reasons == (reason,)
    assert vitals.live().ok is live
    assert "canary" not in str(vitals.ready())


async def test_before_all_parts_are_there_a_worker_is_live_and_not_ready() -> None:
    async with endpoint(Vitals(30.0)) as settings:
        assert (await asyncio.to_thread(ask_health, settings, "live"))["ok"]
        answer = await asyncio.to_thread(ask_health, settings, "ready")
        assert (answer["ok"], answer["reasons"]) == (False, ["starting"])


async def test_the_status_tells_without_reading_the_answer() -> None:
    parts = Parts()
    async with endpoint(vitals_of(parts)) as settings:

        def status(path: str) -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1", settings.health_port or 0, timeout=5)
            with closing(connection):
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read()

        found, body = await asyncio.to_thread(status, "/ready")
        assert (found, json.loads(body)["ok"]) == (200, True)
        parts.device = "waiting"
        found, body = await asyncio.to_thread(status, "/ready")
        assert (found, json.loads(body)["devices"]) == (503, [{"device": "cpu", "state": "waiting"}])
        assert (await asyncio.to_thread(status, "/metrics"))[0] == 404


async def test_with_a_token_nobody_else_is_answered() -> None:
    async with endpoint(vitals_of(Parts()), TOKEN) as settings:
        assert (await asyncio.to_thread(ask_health, settings, "ready"))["ok"]
        for wrong in (None, SecretStr("x" * 20)):
            asking = settings.model_copy(update={"health_token": wrong})
            with pytest.raises(Unavailable, match="refuses: status 401"):
                await asyncio.to_thread(ask_health, asking, "ready")


async def test_nobody_there_and_no_endpoint_are_told_apart() -> None:
    async with endpoint(vitals_of(Parts())) as settings:
        with pytest.raises(Unavailable, match="the health endpoint cannot listen"):
            async with AsyncExitStack() as other:
                await serve_health(settings, Vitals(30.0), other)
    with pytest.raises(Unavailable, match="no worker answers: ConnectionRefusedError"):
        await asyncio.to_thread(ask_health, settings, "ready")
    with pytest.raises(Unavailable, match="set EUREKA_HEALTH_PORT"):
        ask_health(Settings(), "ready")


async def test_no_port_no_endpoint() -> None:
    async with AsyncExitStack() as stack:
        assert await serve_health(Settings(), Vitals(30.0), stack) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org"])
def test_beyond_loopback_only_with_a_token(host: str) -> None:
    with pytest.raises(ValidationError, match="health_host is not loopback"):
        Settings(health_host=host, health_port=8090)
    assert "canary" not in repr(Settings(health_host=host, health_port=8090, health_token=SecretStr(TOKEN)))
    with pytest.raises(ValidationError, match="at least 16"):
        Settings(health_host=host, health_port=8090, health_token=SecretStr("short"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.0.1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert Settings(health_host=host, health_port=8090).health_token is None
