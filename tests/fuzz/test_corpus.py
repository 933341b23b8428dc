"""Every input of the corpus, replayed without a fuzzer: what once broke something, and a good example of each kind."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path for target in TARGETS for path in (CORPUS / target).iterdir())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: "%s/%s" % (path.parent.name, path.name))
def test_nothing_but_a_reject_comes_out(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_the_corpus_reaches_both_ends_of_each_target() -> None:
    """Good inputs among them, or the checks of what comes out would check nothing."""
    assert {path.parent.name for path in INPUTS} == set(TARGETS)
    assert sum(path.stat().st_size for path in INPUTS) < 200_000
