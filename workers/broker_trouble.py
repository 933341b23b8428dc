"""Why a broker does not let us in, in one line: a certificate, a password, or a listener that speaks otherwise.

In: settings, and the error that a client library gave up with (both libraries say only that there was no connection).
Out: the exception to raise. It connects once more to each address to see what happens. Invariants: the line names
addresses, settings and what is wrong, never a password; where trying again cannot help, it is a `Denied`.
"""

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor

from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import Unavailable
from workers.settings import Settings, kafka_security

LOOK_MS = 5000


class Denied(Unavailable):
    """The broker answered, and will not have us (or we not it) until a setting is another one."""


async def explained(settings: Settings, error: Exception) -> Unavailable:
    """What to raise for `error`: `Denied` with the reason, or `Unavailable` naming the addresses and what is known."""
    for address in settings.broker_list:
        try:
            await _knock(settings, address)
        except (KafkaError, OSError, ValueError) as found:
            trouble = _trouble(settings, address, found)
            if trouble is not None:
                return trouble
    return Unavailable("no broker at %s: %s" % (settings.brokers, type(error).__name__))


def explained_apart(settings: Settings, error: Exception) -> Unavailable:
    """The same for code that is not asynchronous, wherever it runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, explained(settings, error)).result()


async def _knock(settings: Settings, address: str) -> None:
    """Connect, authenticate, ask one question: a listener with SASL lets anyone connect and refuses the question."""
    host, _, port = address.rpartition(":")
    connection = await create_conn(host, int(port), request_timeout_ms=LOOK_MS, **kafka_security(settings))
    try:
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


def _trouble(settings: Settings, address: str, error: Exception) -> Unavailable | None:
    match error:
        case ssl.SSLCertVerificationError():
            return Denied("the certificate of the broker at %s: %s" % (address, error.verify_message))
        case SaslAuthenticationFailed():
            return Denied("the broker at %s refuses sasl_username or sasl_password" % address)
        case UnsupportedSaslMechanismError():
            return Denied("the broker at %s does not take %s" % (address, settings.sasl_mechanism))
        case ConnectionRefusedError():
            return None
        case ssl.SSLError() | KafkaConnectionError() | ConnectionError():
            # also what a broker does that is just going down, so another try is worth it
            return Unavailable(
                "the broker at %s breaks the connection off: is security_protocol %s right?"
                % (address, settings.security_protocol)
            )
    return None
