"""A real HTTP server that speaks the chat-completions protocol: five models of one recording, and faults on demand.

A model is asked for by name. Each keeps to its role: what it replies follows from what the request really holds (audio
that decodes, the question, the answers to be judged), so a client that sends the wrong thing gets the wrong thing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import wave
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

KEY = "canary-key-of-the-endpoint"
CAPTION = "A woman speaks quickly on a telephone line while music plays behind her; then a bell rings twice."
CATEGORY = "Speech > Speaker > voice"
QUESTIONS = [
    ("Who is talking?", ["A man", "A woman", "A child", "Nobody"], "B", CATEGORY),
    ("How often does a bell ring?", ["Once", "Twice", "Three times", "Never"], "B", "Sound > Time > count"),
    (
        "At which pace do the words come?",
        ["Slow", "Fast", "Ordinary", "Halting"],
        "B",
        "Speech > Delivery > pace",
    ),
    (
        "What plays along?",
        ["A drum", "Rain", "A melody", "Traffic"],
        "C",
        "Recording > Background > background sound",
    ),
    ("According to the caption, who speaks?", ["A man", "A woman", "A boy", "A girl"], "B", CATEGORY),
]
CLOSING = web.AppKey("closing", asyncio.Event)
RIGHT = {"A woman", "Twice", "Fast", "A melody"}
Fault = Callable[[web.Request], Any]


@dataclass
class Server:
    """`faults` are taken one per request of a model, in order; `asked` counts, `seen` keeps the requests' bodies."""

    url: str = ""
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    seen: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what of the protocol a request got wrong

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model = body["model"]
        self.asked[model] += 1
        self.seen.append(body)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": {"message": f"no such key {KEY}"}}, status=401)
        waiting = self.faults.get(model, [])
        if waiting:
            fault = waiting.pop(0)(request)
            found = await fault if asyncio.iscoroutine(fault) else fault
            if found is not None:
                assert isinstance(found, web.StreamResponse)
                return found
        parts = body["messages"][0]["content"]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        sounds = [part["input_audio"] for part in parts if part["type"] == "input_audio"]
        if bool(sounds) != (model in ("captioner", "one", "two")):
            self.broken.append(f"{model}: {len(sounds)} sounds")
        for sound in sounds:
            self._listen(model, sound)
        return completion(ROLES[model](text))

    def _listen(self, model: str, sound: dict[str, str]) -> None:
        with wave.open(io.BytesIO(base64.b64decode(sound["data"], validate=True))) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            told = (sound["format"], file.getframerate(), file.getnchannels())
        if told != ("wav", 16000, 1) or not samples.any():
            self.broken.append(f"{model}: {told}")


def completion(content: str | None, ended: str = "stop", **more: Any) -> web.Response:
    """A chat completion with one choice."""
    message = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": message, "finish_reason": ended}
    return web.json_response({"id": "c-1", "object": "chat.completion", "choices": [choice]})


def status(number: int, **headers: str) -> Fault:
    """An error whose body repeats the key, as some servers do."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: web.json_response({"error": {"message": KEY}}, status=number, headers=names)


def says(content: str | None, ended: str = "stop", **more: Any) -> Fault:
    return lambda request: completion(content, ended, **more)


async def hangs(request: web.Request) -> None:
    """Does not answer while the client waits."""
    with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
        await asyncio.wait_for(request.app[CLOSING].wait(), 30)


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Promises more bytes than it sends, then closes."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.close()
    return response


def html(request: web.Request) -> web.Response:
    return web.Response(text="<html>gateway</html>", content_type="text/html")


def _category(text: str) -> str:
    shown = CAPTION in text and "filed under: nothing" in text
    return json.dumps({"match": shown, "category": CATEGORY, "reason": "a woman is heard"})


def _write(text: str) -> str:
    assert CAPTION in text
    made = [
        {"question": asked, "options": options, "answer": key, "category": category}
        for asked, options, key, category in QUESTIONS
    ]
    return "<think>five of them</think>```json\n%s\n```" % json.dumps({"questions": made})


def _hears(wrong: tuple[str, ...]) -> Callable[[str], str]:
    """Right, but for questions that hold one of these words."""

    def answer(text: str) -> str:
        options = dict(re.findall(r"^([A-D])\. (.+)$", text, re.MULTILINE))
        right = next(letter for letter, option in options.items() if option in RIGHT)
        other = next(letter for letter in options if letter != right)
        mistaken = any(word in text for word in wrong)
        return json.dumps({"reasoning": "I heard it.", "answer": other if mistaken else f"{right}."})

    return answer


def _judge(text: str) -> str:
    options = dict(re.findall(r"^([A-D])\. (.+)$", text, re.MULTILINE))
    chosen = dict(re.findall(r"^(MODEL_[A-H]) chose ([A-D])\. Reasoning: I heard it\.$", text, re.MULTILINE))
    assert CAPTION in text
    right = [name for name, letter in chosen.items() if options[letter] in RIGHT]
    return json.dumps(
        {
            "consensus": len(set(chosen.values())) == 1,
            "consistency_with_caption": "STRONG_MATCH" if right else "CONFLICT",
            "winner": "TIE" if len(right) > 1 else right[0] if right else "NONE",
            "reasoning": "by the description",
            "final_action": "KEEP_USING_WINNER" if right else "DISCARD",
        }
    )


ROLES: dict[str, Callable[[str], str]] = {
    "captioner": lambda text: CAPTION,
    "writer": lambda text: _category(text) if "filed under" in text else _write(text),
    "one": _hears(("bell",)),
    "two": _hears(("bell", "plays")),
    "judge": _judge,
}


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server on a free port of the loopback."""
    server = Server()
    app = web.Application(client_max_size=8 << 20)
    app[CLOSING] = asyncio.Event()
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = "http://127.0.0.1:%d/v1" % runner.addresses[0][1]
        yield server
    finally:
        app[CLOSING].set()
        await runner.cleanup()
