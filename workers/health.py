"""The health endpoint of a worker: `/live` and `/ready`, each with its reasons as JSON.

In: a `Vitals`, an address from the settings. Out: status 200 or 503 and `{"ok": …, "reasons": […], …}`. Knows no part
of the worker. Off unless a port is set; on loopback unless told otherwise, and beyond it only with a token.
Invariant: no text of a transcript, no address and no secret in an answer; nothing of a request is logged.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from streams.errors import Unavailable
from workers.settings import Settings
from workers.vitals import Report, Vitals

KEEP_ALIVE_S = 5.0


async def serve_health(settings: Settings, vitals: Vitals, stack: AsyncExitStack) -> int | None:
    """Answer until `stack` is closed; returns the port, None where no endpoint is wanted. Raises Unavailable."""
    if settings.health_port is None:
        return None
    token = settings.health_token
    app = web.Application(middlewares=[_asks_for(token.get_secret_value())] if token else [])
    app.router.add_get("/live", _answering(vitals.live))
    app.router.add_get("/ready", _answering(vitals.ready))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, settings.health_host, settings.health_port).start()
    except OSError as error:
        raise Unavailable("the health endpoint cannot listen: %s" % error.strerror) from None
    return int(runner.addresses[0][1])


def _answering(question: Callable[[], Report]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        report = question()
        body = {"ok": report.ok, "reasons": list(report.reasons)} | report.facts
        status = 200 if report.ok else 503
        return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})

    return answer


def _asks_for(token: str) -> Any:
    expected = ("Bearer " + token).encode()

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return guard
