"""The loop against a real HTTP server: what it keeps, survives and counts, and that the key stays where it is."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from model.dataflux.errors import Misconfigured, Unreachable
from model.train import manifest
from tests.model.dataflux.server import (
    CAPTION,
    KEY,
    Server,
    completion,
    cut_off,
    hangs,
    html,
    says,
    serving,
    status,
)
from workers.dataflux import Asked, Done, run
from workers.recordings import write_wav
from workers.settings import ChatEndpoint, Settings


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as one:
        yield one


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost more than everything else here together; the local run draws them."""
    monkeypatch.setattr("model.dataflux.pictures.draw", lambda folder, told, clips: [])


def settings(server: Server, **more: Any) -> Settings:
    def at(model: str) -> ChatEndpoint:
        waits: dict[str, Any] = {"timeout_s": 2.0, "attempts": 3, "retry_first_s": 0.01, "retry_max_s": 0.05}
        return ChatEndpoint(url=server.url, model=model, key=SecretStr(more.get("key", KEY)), **waits)

    return Settings(
        dataflux_captioner=at("captioner"),
        dataflux_writer=at("writer"),
        dataflux_answerers=(at("one"), at("two")),
        dataflux_judge=at("judge"),
    )


def recordings(folder: Path, count: int) -> Path:
    """A list of `count` clips of a second."""
    lines = []
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 3000, 16_000).astype(np.int16)
        write_wav(folder / f"{number}.wav", noise)
        lines.append(
            json.dumps({"audio": f"{number}.wav", "licence": "CC0-1.0", "expires": "2999-01-01T00:00:00Z"})
        )
    path = folder / "clips.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def asked(folder: Path, count: int = 1) -> Asked:
    return Asked(out=folder / "out", clips=recordings(folder, count), parallel=1)


def told(done: Done) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((Path(done.folder) / "report.json").read_text())
    return report


async def test_faults_of_every_kind_change_nothing_of_what_is_kept(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wanted = asked(tmp_path)
    server.faults = {
        "captioner": [status(429, Retry_After="0"), status(500), says("I'm sorry, I cannot listen to this.")],
        "writer": [html, says("no object here"), says('{"match": true, "cat', "length"), cut_off],
        "one": [hangs, says(None, refusal="I will not"), says('{"reasoning": "x", "answer": "E"}')],
        "two": [says('{"reasoning": 1}'), status(503), says("")],
        "judge": [
            says(
                '{"consensus": true, "consistency_with_caption": "CONFLICT", "winner": "NONE",'
                ' "reasoning": "?", "final_action": "KEEP_USING_WINNER"}'
            ),
            status(502),
        ],
    }
    said: list[str] = []
    done = await run(settings(server), wanted, said.append)
    assert (done.clips, done.questions, done.kept, done.hard, done.left) == (1, 4, 3, 1, 0)
    assert "captioner: requests that had to be sent again: 429 1, 500 1" in said
    assert (done.consensus, done.discarded) == (0.75, {"no model right": 1})
    assert server.broken == []
    report = told(done)
    assert report["rules_broken"] == {"by_listening": 1}
    assert report["unusable"] == {
        "answer one: refusal": 1,
        "answer one: schema": 1,
        "answer two: empty": 1,
        "answer two: schema": 1,
        "caption: refusal": 1,
        "category: not_json": 1,
        "category: truncated": 1,
        "verdict: contradiction": 1,
    }
    questions = manifest.read(wanted.out / "questions.jsonl")
    assert {one.answer for one in questions} == {"A woman", "Fast", "A melody"}
    assert all(one.licence == "CC0-1.0" and one.audio == tmp_path / "0.wav" for one in questions)
    assert [one.answer for one in manifest.read(wanted.out / "hard.jsonl")] == ["A melody"]
    assert [one.answer for one in manifest.read(wanted.out / "captions.jsonl")] == [CAPTION]
    details = [json.loads(line) for line in (wanted.out / "details.jsonl").read_text().splitlines()]
    assert {one["origin"]["extra"]["expires"] for one in details} == {"2999-01-01T00:00:00+00:00"}
    # a cut-off reply is asked for again with more room, another bad one with the reply and what was wrong with it
    tokens = [body["max_tokens"] for body in server.seen if body["model"] == "writer"]
    assert max(tokens) == 2 * min(tokens)
    turns = [[turn["role"] for turn in body["messages"]] for body in server.seen if body["model"] == "two"]
    assert ["user", "assistant", "user"] in turns
    written = b"".join(path.read_bytes() for path in wanted.out.rglob("*") if path.is_file())
    assert KEY.encode() not in written + caplog.text.encode()
    assert server.url.encode() not in written


async def test_what_stays_unusable_is_discarded_and_counted_and_its_neighbours_go_on(
    server: Server, tmp_path: Path
) -> None:
    server.faults = {
        "captioner": [says("I'm sorry, but no.")] * 3,
        "writer": [says(json.dumps({"match": False, "category": "Sound > Time > count"})), status(413)],
    }
    done = await run(settings(server), asked(tmp_path, 4), lambda line: None)
    assert done.clips_discarded == {
        "caption: refusal": 1,
        "category: category_mismatch": 1,
        "category: rejected_by_server": 1,
    }
    assert (done.clips, done.questions, done.kept) == (4, 4, 3)
    server.faults = {"two": [says("nothing")] * 3}
    more = Asked(out=tmp_path / "again", clips=tmp_path / "clips.jsonl", parallel=1)
    again = await run(settings(server), more, lambda line: None)
    assert (again.questions, again.kept, again.discarded) == (
        16,
        11,
        {"no model right": 4, "too few answers": 1},
    )


async def test_a_run_that_stopped_goes_on_and_asks_nothing_twice(server: Server, tmp_path: Path) -> None:
    server.faults = {"judge": [status(500)] * 3 * 5}
    wanted = asked(tmp_path, 6)
    with pytest.raises(Unreachable) as away:
        await run(settings(server), wanted, lambda line: None)
    assert KEY not in str(away.value)
    first = dict(server.asked)
    assert first["captioner"] == 5  # five clips in a row end the run
    server.faults = {}
    done = await run(settings(server), wanted, lambda line: None)
    assert (done.finished, done.known, done.left, done.clips, done.kept) == (6, 0, 0, 6, 18)
    # each step was paid for once, however often it was begun: only the verdicts that never came were asked for again
    assert server.asked["captioner"] == 6
    assert server.asked["writer"] == 12
    assert server.asked["one"] == server.asked["two"] == 24
    assert server.asked["judge"] == first["judge"] + 24
    paid = dict(server.asked)
    same = await run(settings(server), wanted, lambda line: None)
    assert (same.finished, same.known, dict(server.asked)) == (0, 6, paid)
    one_go = await run(
        settings(server), Asked(out=tmp_path / "one", clips=wanted.clips, parallel=3), lambda line: None
    )
    assert told(one_go) == told(done)
    for name in ("questions", "hard", "captions", "details"):
        file = f"{name}.jsonl"
        assert (wanted.out / file).read_text() == (tmp_path / "one" / file).read_text()
    with pytest.raises(Misconfigured, match="questions"):
        await run(settings(server), Asked(out=wanted.out, clips=wanted.clips, questions=2), lambda line: None)


async def test_a_wrong_key_ends_the_run_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="401") as refused:
        await run(settings(server, key="canary-wrong"), asked(tmp_path, 3), lambda line: None)
    assert server.asked == {"captioner": 1}
    assert "canary" not in str(refused.value)


async def test_redirects_are_not_followed_and_a_flood_is_cut_off(server: Server, tmp_path: Path) -> None:
    flood = completion("x" * (5 << 20))
    server.faults = {"captioner": [lambda request: flood]}
    done = await run(settings(server), asked(tmp_path), lambda line: None)
    assert done.kept == 3
    server.faults = {"captioner": [status(307, Location="/v1/elsewhere")]}
    with pytest.raises(Misconfigured, match="307"):
        await run(
            settings(server), Asked(out=tmp_path / "b", clips=tmp_path / "clips.jsonl"), lambda line: None
        )
