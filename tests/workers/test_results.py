"""Questions whose answers could not be told apart are refused before anything is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.answers import Question
from model.config import RELEASE_QUESTIONS
from workers import service
from workers.exits import Exit
from workers.results import check_questions
from workers.settings import Settings, SettingsError

VOICE = Question("voice", "speech", "Who speaks?", ("a child", "an adult"), "voice")
CLASHES = {
    "two tracks": replace(VOICE, name="heard", track="scene"),
    "one track": replace(VOICE, name="again"),
    "measured in a window": replace(VOICE, name="loud", event_type="loudness"),
    "found in the dialog": replace(VOICE, name="both", event_type="overtalk"),
}


@pytest.mark.parametrize("other", CLASHES.values(), ids=CLASHES.keys())
def test_no_two_questions_may_ask_for_one_kind_of_event(other: Question) -> None:
    with pytest.raises(SettingsError, match=other.event_type):
        check_questions((VOICE, other))


def test_the_questions_of_the_release_are_fine() -> None:
    check_questions(RELEASE_QUESTIONS)


def test_a_worker_whose_questions_clash_does_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Opened:
        """A database or an engine process that is there at once."""

        questions = (VOICE, CLASHES["two tracks"])

        def __init__(self, *_: Any, **__: Any) -> None: ...

        @classmethod
        async def open(cls, *_: Any, **__: Any) -> Opened:
            return cls()

        async def start(self) -> None: ...
        async def close(self) -> None: ...

    async def there(*_: Any) -> None: ...

    async def read(*_: Any) -> None:
        raise AssertionError("a worker that may not start went on")

    monkeypatch.setattr(service, "set_up_logging", lambda level: None)
    monkeypatch.setattr(service, "_end_soon", lambda settings, error: None)  # it would end this process
    monkeypatch.setattr(service, "guard_loop", lambda limit_s: lambda: None)  # as would this
    for name, stub in (("Store", Opened), ("EnginePool", Opened), ("wait_for_broker", there)):
        monkeypatch.setattr(service, name, stub)
    monkeypatch.setattr(service, "_look_at_topics", there)
    monkeypatch.setattr(service.Publisher, "open", read)
    assert service.run_worker(Settings(database_url="postgresql://nobody@localhost/none")) == Exit.FAILED
    (told,) = [record for record in caplog.records if record.message == "worker ended"]
    assert "event_type voice" in told.reason
