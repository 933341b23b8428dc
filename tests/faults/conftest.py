"""One Kafka and one PostgreSQL for all fault tests of the suite, apart from the suite's own: these get struck."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.stage import Stage, open_stage
from tests.servers.kafka import kafka_missing
from tests.servers.postgres_debian import postgres_binaries

__all__ = ["postgres_binaries", "stage"]


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    missing = kafka_missing()
    if missing is not None:
        pytest.skip("needs Apache Kafka: %s" % missing)
    with open_stage() as opened:
        yield opened
