"""Frames and shared memory: what goes in comes out, and what is not ours is refused."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.answers import ChoiceAnswer, Question, Response, TextAnswer, Word
from workers import ipc

RESPONSE = Response(
    "7",
    (
        TextAnswer(
            "transcript",
            "grüß Gott",
            "de",
            0.25,
            (Word("grüß", 0, 80, None), Word("Gott", 80, 240, 0.5)),
            "ctc",
        ),
        TextAnswer("caption", "music", None, None, None, None),
        ChoiceAnswer("question:mood", "mood", "emotion", "calm", {"calm": 0.75, "angry": 0.25}),
    ),
    None,
)
QUESTION = Question("mood", "speech", "How does the speaker sound?", ("calm", "angry"), "emotion")


async def read_bytes(raw: bytes) -> ipc.Message:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    return await ipc.read(reader)


async def test_a_message_survives_the_frame() -> None:
    message = {"kind": "done", "responses": [ipc.response_message(RESPONSE)], "question": asdict(QUESTION)}
    back = await read_bytes(ipc.encode(message))
    assert ipc.response_from(back["responses"][0]) == RESPONSE
    assert ipc.question_from(back["question"]) == QUESTION


async def test_a_child_reads_what_the_parent_wrote_and_the_other_way_round() -> None:
    ours, theirs = socket.socketpair()
    channel = ipc.Channel(theirs.detach())
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(ipc.encode({"kind": "a", "text": "x" * 100_000}))
    assert (await asyncio.to_thread(channel.receive))["text"] == "x" * 100_000
    channel.send({"kind": "b"})
    assert await ipc.read(reader) == {"kind": "b"}
    writer.close()
    await writer.wait_closed()
    with pytest.raises(EOFError):
        channel.receive()
    channel.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1",
        ipc.HEADER.pack(ipc.MAGIC, ipc.MAX_FRAME_BYTES + 1),
        ipc.HEADER.pack(ipc.MAGIC, 3) + b"[1]",
        ipc.HEADER.pack(ipc.MAGIC, 2) + b"\xff\xff",
    ],
)
async def test_what_is_not_ours_is_refused(raw: bytes) -> None:
    with pytest.raises(ipc.ProtocolError):
        await read_bytes(raw)


@pytest.mark.parametrize("cut", [0, 4, 9])
async def test_a_cut_frame_is_the_end(cut: int) -> None:
    with pytest.raises(EOFError):
        await read_bytes(ipc.encode({"kind": "x"})[:cut])


def test_limits_and_numbers() -> None:
    with pytest.raises(ipc.ProtocolError):
        ipc.encode({"text": "x" * ipc.MAX_FRAME_BYTES})
    with pytest.raises(ValueError):
        ipc.encode({"p": float("nan")})
    for junk in ({}, {"request_id": "1", "answers": [{"probabilities": 1}], "error": None}, {"answers": 1}):
        with pytest.raises(ipc.ProtocolError):
            ipc.response_from(junk)


def test_a_probability_that_is_no_number_is_an_error_of_that_request() -> None:
    bad = Response("3", (ChoiceAnswer("q", "q", "q", "a", {"a": float("inf")}),), None)
    back = ipc.response_from(ipc.response_message(bad))
    assert (back.request_id, back.answers) == ("3", ())
    assert back.error is not None


class ArenaMachine(RuleBasedStateMachine):
    """Places taken and freed in any order: what a child reads on a taken one is what was written there."""

    PLACES = 4
    PLACE_SAMPLES = 50

    def __init__(self) -> None:
        super().__init__()
        self.arena = ipc.Arena.create(self.PLACES, self.PLACE_SAMPLES)
        self.child = ipc.Arena.attach(os.dup(self.arena.fd))
        self.held: dict[int, np.ndarray] = {}

    @rule(samples=st.integers(0, PLACE_SAMPLES), seed=st.integers(0, 2**32 - 1))
    def write(self, samples: int, seed: int) -> None:
        audio = np.random.default_rng(seed).integers(-32768, 32768, samples).astype(np.int16)
        if len(self.held) == self.PLACES:
            with pytest.raises(ValueError):
                self.arena.write(audio)
            return
        start = self.arena.write(audio)
        assert start not in self.held
        assert start // self.PLACE_SAMPLES <= len(self.held), "not the lowest free place"
        self.held[start] = audio

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[start]
        self.arena.free(start)
        with pytest.raises(KeyError):
            self.arena.free(start)

    @invariant()
    def nothing_is_overwritten(self) -> None:
        for start, audio in self.held.items():
            np.testing.assert_array_equal(self.child.read(start, len(audio)), audio)

    def teardown(self) -> None:
        self.child.close()
        self.arena.close()


ArenaMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestArena = ArenaMachine.TestCase


def test_the_arena_is_bounded_and_cannot_be_cut() -> None:
    arena = ipc.Arena.create(2, 50)
    try:
        with pytest.raises(ValueError):
            arena.write(np.zeros(51, np.int16))
        assert [arena.write(np.zeros(50, np.int16)) for _ in range(2)] == [0, 50]
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, 10)
    finally:
        arena.close()
