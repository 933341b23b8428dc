"""Fixtures that are there for every test; what they do stands in tests/servers."""

pytest_plugins = ["tests.order", "tests.no_skips", "tests.servers.postgres", "tests.servers.kafka"]
