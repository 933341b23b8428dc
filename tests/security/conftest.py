"""A Kafka and a PostgreSQL that let nobody in without a name, and clean variables."""

import os

import pytest

from tests.servers.kafka_tls import secure_kafka
from tests.servers.postgres_debian import postgres_binaries
from tests.servers.postgres_tls import secure_postgres

__all__ = ["postgres_binaries", "secure_kafka", "secure_postgres"]


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has configured must not reach into them."""
    for name in [n for n in os.environ if n.startswith("EUREKA_") and n != "EUREKA_KAFKA_JARS"]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("DATABASE_URL", raising=False)
