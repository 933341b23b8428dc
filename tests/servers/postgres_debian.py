"""The PostgreSQL of the operating system (Debian: package postgresql-15), which knows TLS and brings pg_dump.

The build in the PyPI package does neither. In: nothing. Out: where its programs are. Starts nothing: that is
`tests.servers.postgres_own`. Invariant: where it is missing a test is skipped with the package's name, and in CI a
skipped test is a failure (tests/no_skips.py).
"""

from pathlib import Path

import pytest

INSTALLED = Path("/usr/lib/postgresql")
NEEDED = ("postgres", "initdb", "psql", "createdb", "pg_dump", "pg_restore")
OLDEST = 15  # what storage.migrate takes


def system_binaries() -> Path | None:
    """The folder with the programs of the newest version that is whole; None where there is none."""
    found = {
        int(folder.parent.name): folder
        for folder in INSTALLED.glob("*/bin")
        if folder.parent.name.isdigit() and all((folder / name).exists() for name in NEEDED)
    }
    newest = max(found, default=0)
    return found[newest] if newest >= OLDEST else None


@pytest.fixture(scope="session")
def postgres_binaries() -> Path:
    """The same, or the test is skipped."""
    found = system_binaries()
    if found is None:
        pytest.skip(
            "needs PostgreSQL %d or later below %s (apt-get install postgresql-15)" % (OLDEST, INSTALLED)
        )
    return found
