"""The embedded server: keeps its data, is alone on its folder, and never outlives its process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.embedded import embedded_postgres
from streams.messages import Unavailable
from tests.servers.postgres import execute, folder_for_postgres, run_apart

CHILD = """
import sys, time
from storage.embedded import embedded_postgres
with embedded_postgres(sys.argv[1], durable=False) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def test_data_stays_and_a_killed_owner_leaves_no_server(reachable_folder: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(reachable_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            url = owner.stdout.readline().strip()
            run_apart(execute(url, "CREATE TABLE kept (a int)", "INSERT INTO kept VALUES (1)"))
            with pytest.raises(Unavailable, match="another process"), embedded_postgres(reachable_folder):
                pass
            server = int((reachable_folder / "data" / "postmaster.pid").read_text().split()[0])
        finally:
            owner.kill()
    deadline_s = time.monotonic() + 30
    while Path(f"/proc/{server}").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    sockets = Path(url.partition("host=")[2])
    while sockets.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    with embedded_postgres(reachable_folder, durable=False) as again:
        run_apart(execute(again, "SELECT a / a FROM kept"))
    assert not Path(again.partition("host=")[2]).exists()


def test_a_server_that_dies_at_start_is_reported(reachable_folder: Path) -> None:
    with embedded_postgres(reachable_folder, durable=False):
        pass
    (reachable_folder / "data" / "postgresql.conf").write_text("nonsense = 1")
    with pytest.raises(Unavailable, match="log"), embedded_postgres(reachable_folder):
        pass


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    with folder_for_postgres() as folder:
        yield folder
