"""What the extras install is pinned by hash, and what they leave out is explained."""

import re
import tomllib

import pytest

from tests.security.clients import ROOT
from tests.test_layout import name_of, requirements

PYPROJECT = (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("extra", ["bench", "evaluate", "fuzz", "audit"])
def test_extras_are_locked_with_hashes_and_without_addresses(extra: str) -> None:
    text = (ROOT / ("requirements-%s.lock" % extra)).read_text()
    wanted = {name_of(n) for n in tomllib.loads(PYPROJECT)["project"]["optional-dependencies"][extra]}
    assert requirements(ROOT / ("requirements-%s.in" % extra)) == wanted
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert wanted <= {name_of(block) for block in blocks}
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_every_exclusion_of_bandit_is_explained() -> None:
    table = PYPROJECT.partition("[tool.bandit]")[2].partition("\n[")[0]
    skipped = tomllib.loads(PYPROJECT)["tool"]["bandit"]["skips"]
    explained = re.findall(r'"(B\d{3})",\s+# \S.{15,}', table)
    assert skipped == explained
