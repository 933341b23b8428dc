"""The suite itself: what `make test` puts first is there, and a skip fails in CI
though two processes share the tests."""

import os
import subprocess
import sys
from pathlib import Path

from tests.order import LONGEST

ROOT = Path(__file__).parent.parent
SKIPS = "import pytest\ndef test_good(): pass\ndef test_skipped(): pytest.skip('not here')\n"


def test_the_longest_files_are_there() -> None:
    assert [path for path in LONGEST if not (ROOT / path).is_file()] == []


def test_a_skip_fails_in_ci(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(SKIPS)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-n", "2", "--dist", "loadfile"]
    done = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=plain | {"CI": "true", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("not here") == 2
    assert "2 passed, 2 skipped" in done.stdout
