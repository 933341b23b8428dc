"""How the worker and an engine process talk: framed JSON on a socket, audio in shared memory.

In: messages as dicts, audio as int16 arrays. Out: frames, audio in the arena. Does not know who sends what when.
Every frame is an 8-byte header (magic, length) and one JSON object; no pickle. The arena is an anonymous memory file
(memfd) that the parent makes and the child inherits: it has no name, so nothing is left in /dev/shm whoever is killed.
Invariants: a frame is bounded in both directions; the parent writes a place of the arena only while no request is on
it.
"""

from __future__ import annotations

import asyncio
import fcntl
import heapq
import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from model.answers import Answer, ChoiceAnswer, Question, Response, TextAnswer, Word

HEADER = struct.Struct("<4sI")
MAGIC = b"EKA1"
MAX_FRAME_BYTES = 16 << 20
SAMPLE_BYTES = 2

Audio = npt.NDArray[np.int16]
Message = dict[str, Any]


class ProtocolError(Exception):
    """The other side sent something that is not a frame of ours."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One frame. Raises ValueError for NaN or infinity, ProtocolError when it is too large."""
    body = json.dumps(message, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return HEADER.pack(MAGIC, len(body)) + body


async def read(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises EOFError when the other side is gone, ProtocolError for anything malformed."""
    try:
        length = _length(await reader.readexactly(HEADER.size))
        return _message(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError("the control socket was closed") from error


class Channel:
    """The child's blocking end of the socket. `send` may be called from several threads."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._sending = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        frame = encode(message)
        with self._sending:
            self._socket.sendall(frame)

    def receive(self) -> Message:
        """The next message. Raises EOFError when the parent is gone."""
        return _message(self._exactly(_length(self._exactly(HEADER.size))))

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._socket.recv(size)
            if not part:
                raise EOFError("the control socket was closed")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Arena:
    """Shared memory for the audio under way: places of one size, one window on each.

    The memory file is sparse and the lowest free place is taken first: what is never used costs nothing.
    """

    def __init__(self, fd: int, places: int, place_samples: int, *, writable: bool) -> None:
        self.fd = fd
        self._place_samples = place_samples
        self._free = list(range(places))  # a heap
        self._taken: set[int] = set()
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(fd, 0, access=access)

    @classmethod
    def create(cls, places: int, place_samples: int) -> Arena:
        """Places of `place_samples` int16 samples each. Its size is sealed: a child cannot cut it away under us."""
        size_bytes = max(places * place_samples, 1) * SAMPLE_BYTES
        fd = os.memfd_create("eureka-audio", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size_bytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            return cls(fd, places, place_samples, writable=True)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int) -> Arena:
        """The child's read-only view. It has no places to give: where a window lies comes with its request."""
        return cls(fd, 0, 0, writable=False)

    def write(self, audio: Audio) -> int:
        """Put a window on a free place; where it starts, in samples. ValueError if too long or if no place is free."""
        if len(audio) > self._place_samples:
            raise ValueError(f"{len(audio)} samples do not fit into a place of {self._place_samples}")
        if not self._free:
            raise ValueError("every place has a request on it")
        place = heapq.heappop(self._free)
        self._taken.add(place)
        start = place * self._place_samples
        raw = np.ascontiguousarray(audio, np.int16).view(np.uint8)
        self._map[start * SAMPLE_BYTES : (start + len(audio)) * SAMPLE_BYTES] = raw.data
        return start

    def free(self, start: int) -> None:
        """The request on the place that starts there is answered. KeyError when there is none."""
        place = start // self._place_samples
        self._taken.remove(place)
        heapq.heappush(self._free, place)

    def read(self, start: int, samples: int) -> Audio:
        """A copy of one window: what an engine keeps can never change under it."""
        return np.frombuffer(self._map, np.int16, samples, start * SAMPLE_BYTES).copy()

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)


def response_message(response: Response) -> Message:
    """A response as JSON-able data. A probability that is not finite turns it into an error of this request alone."""
    message = asdict(response)
    try:
        json.dumps(message, allow_nan=False)
    except ValueError:
        return {"request_id": response.request_id, "answers": [], "error": "the model's answer is not finite"}
    return message


def response_from(message: Message) -> Response:
    """Back from `response_message`. Raises ProtocolError for anything else."""
    try:
        answers = tuple(_answer(a) for a in message["answers"])
        return Response(message["request_id"], answers, message["error"])
    except (KeyError, TypeError) as error:
        raise ProtocolError("not a response") from error


def question_from(message: Message) -> Question:
    """Back from `dataclasses.asdict(question)`. Raises ProtocolError for anything else."""
    try:
        return Question(**{**message, "choices": tuple(message["choices"])})
    except (KeyError, TypeError) as error:
        raise ProtocolError("not a question") from error


def _answer(message: Message) -> Answer:
    if "probabilities" in message:
        return ChoiceAnswer(**message)
    words = message["words"]
    return TextAnswer(**{**message, "words": None if words is None else tuple(Word(**w) for w in words)})


def _length(header: bytes) -> int:
    magic, length = HEADER.unpack(header)
    if magic != MAGIC:
        raise ProtocolError("a frame with a foreign header")
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return int(length)


def _message(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ProtocolError("a frame that is not JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("a frame that is not an object")
    return message
