"""Ask a running worker how it is: the client of `workers.health`, as `eureka health` and a container's check use it.

In: the settings of the worker that is asked. Out: what it answers. Imports nothing heavy: it runs every few seconds.
"""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from streams.errors import Unavailable
from workers.settings import Settings

TIMEOUT_S: Final = 5.0
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ask_health(settings: Settings, question: str) -> dict[str, Any]:
    """Ask the worker that these settings belong to, `live` or `ready`. Raises Unavailable where nobody answers."""
    if settings.health_port is None:
        raise Unavailable("no health endpoint: set EUREKA_HEALTH_PORT for the worker and for this command")
    host = EVERYWHERE.get(settings.health_host, settings.health_host)
    token = settings.health_token
    headers = {"Authorization": "Bearer " + token.get_secret_value()} if token else {}
    connection = HTTPConnection(host, settings.health_port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/" + question, headers=headers)
        response = connection.getresponse()
        body = response.read(1 << 16)
    except (OSError, HTTPException) as error:
        raise Unavailable("no worker answers: %s" % type(error).__name__) from None
    finally:
        connection.close()
    if response.status not in (200, 503):
        raise Unavailable("the health endpoint refuses: status %d" % response.status)
    answer: dict[str, Any] = json.loads(body)
    return answer
