"""Frames and shared memory: what goes in comes out, and what is not ours is refused."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 500), max_size=8), st.integers(0, 2**32 - 1))
def test_audio_survives_the_arena(lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    windows = [random.integers(-32768, 32768, n).astype(np.int16) for n in lengths]
    arena = ipc.Arena.create(sum(lengths))
    child = ipc.Arena.attach(os.dup(arena.fd))
    try:
        for window, (start, samples) in zip(windows, arena.write(windows), strict=True):
            np.testing.assert_array_equal(child.read(start, samples), window)
    finally:
        child.close()
        arena.close()


def test_the_arena_is_bounded_and_cannot_be_cut() -> None:
    arena = ipc.Arena.create(100)
    try:
        with pytest.raises(ValueError):
            arena.write([np.zeros(60, np.int16), np.zeros(41, np.int16)])
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, 10)
    finally:
        arena.close()
