"""Every input of the corpus, replayed without a fuzzer: what once broke something, and a good example of each kind."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path for target in TARGETS for path in (CORPUS / target).iterdir())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: "%s/%s" % (path.parent.name, path.name))
def test_nothing_but_a_reject_comes_out(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds_what_is_accepted_and_what_is_refused(target: str) -> None:
    """Or the checks of what comes out would check nothing."""
    fates = [TARGETS[target](path.read_bytes()) for path in INPUTS if path.parent.name == target]
    assert fates.count(True) >= 3
    assert fates.count(False) >= 1


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in INPUTS) < 200_000
