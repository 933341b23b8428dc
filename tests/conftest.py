"""Fixtures that are there for every test; what they do stands in tests/servers."""

pytest_plugins = ["tests.servers.postgres", "tests.servers.kafka"]
