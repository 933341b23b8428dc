"""Small products run fastest on one thread, above all on a busy machine (`model.device.one_thread`)."""

from collections.abc import Iterator

import pytest

from model import device


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with device.one_thread():
        yield
