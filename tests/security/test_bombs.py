"""What is small and wants to be large once decoded is refused, or read without touching what would unpack.

Decoded in a child process that has made none of them, so that its peak memory is the decoder's.
"""

import json
import subprocess
import sys

import pytest

from tests.security.bombs import BOMBS, MIB
from tests.security.clients import ROOT

GROWTH_MIB = (
    110  # the limit of decoded audio (32 MiB) once as frames and once as a whole, and what FFmpeg reads ahead
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int | str]]:
    folder = tmp_path_factory.mktemp("bombs")
    for number, bomb in enumerate(BOMBS.values()):
        (folder / str(number)).write_bytes(bomb.make())
    command = [sys.executable, "-m", "tests.security.bombs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {outcome["name"]: outcome for outcome in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_what_a_chunk_may_cost(outcomes: dict[str, dict[str, int | str]], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["fate"] in BOMBS[name].fate
    assert int(outcome["bytes"]) <= MIB
    assert int(outcome["growth_mib"]) <= GROWTH_MIB
