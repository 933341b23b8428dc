"""A client of one OpenAI-compatible endpoint: a prompt and perhaps audio in, the text of the reply out.

In: an `Endpoint`. Out: texts; or Unusable, Unreachable, Misconfigured. Knows no role and no prompt. Invariants: a
reply is bounded in bytes and in time; what may pass (429, 5xx, a time-out, a broken connection, a page of a proxy) is
tried again with growing waits, a bounded number of times; the key goes into one header and nowhere else, no redirect is
followed with it, and no exception holds a body.

The protocol is POST {url}/chat/completions with audio as a base64 `input_audio` part (WAV), as vLLM and others have it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
from pydantic import SecretStr

from model.dataflux.errors import Misconfigured, Unreachable, Unusable
from model.dataflux.values import Samples

RATE_HZ: Final = 16_000
MAX_REPLY_BYTES: Final = 4 << 20
REJECTED: Final = frozenset({400, 413, 415, 422})  # this request alone
TRANSIENT: Final = frozenset({408, 409, 425, 429})  # and everything from 500 on
RETRIES_TOKENS: Final = 2  # times as many tokens for a reply that was cut off


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. `url` ends before `/chat/completions`; waits double from `first_wait_s` on."""

    url: str
    model: str
    key: SecretStr | None = None
    timeout_s: float = 120.0
    attempts: int = 6
    first_wait_s: float = 1.0
    most_wait_s: float = 60.0
    max_tokens: int = 1024
    temperature: float = 0.0


class Chat:
    """An open connection pool to one endpoint; may be used by many tasks at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self.tried_again: Counter[str] = Counter()  # by status or by kind of failure

    async def __aenter__(self) -> Self:
        key = self._endpoint.key
        headers = {"Authorization": "Bearer " + key.get_secret_value()} if key is not None else {}
        limit = aiohttp.ClientTimeout(total=self._endpoint.timeout_s)
        self._session = aiohttp.ClientSession(headers=headers, timeout=limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, prompt: str, audio: Samples | None = None, again: Unusable | None = None) -> str:
        """The reply to one user turn. `again`: what was wrong with the last reply, which the model is shown.

        Raises Unusable (refusal, truncated, empty, not_protocol, rejected_by_server), Unreachable, Misconfigured.
        """
        body = json.dumps(self._request(prompt, audio, again)).encode()
        wait_s = self._endpoint.first_wait_s
        for attempt in range(1, self._endpoint.attempts + 1):
            failure, told_s = "", None
            try:
                status, raw, told_s = await self._post(body)
                if status == 200 and (message := _message(raw)) is not None:
                    return _text(*message)
                failure = str(status) if status != 200 else "not_protocol"
                self._refuse(status)
            except TimeoutError:
                failure = "timeout"
            except aiohttp.ClientError as error:
                failure = type(error).__name__
            self.tried_again[failure] += 1
            if attempt == self._endpoint.attempts and failure == "not_protocol":
                raise Unusable("not_protocol", again=False)
            if attempt < self._endpoint.attempts:
                await asyncio.sleep(min(max(wait_s, told_s or 0.0), self._endpoint.most_wait_s))
                wait_s *= 2
        raise Unreachable(f"{self._endpoint.url}: {failure} after {self._endpoint.attempts} attempts")

    async def _post(self, body: bytes) -> tuple[int, bytes, float | None]:
        """Status, body (bounded) and how long the server says to wait."""
        assert self._session is not None
        url = self._endpoint.url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"}
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            raw = bytearray()
            async for piece in response.content.iter_any():
                raw += piece
                if len(raw) > MAX_REPLY_BYTES:
                    return response.status, b"", None
            told = response.headers.get("Retry-After", "")
            return response.status, bytes(raw), float(told) if told.isdigit() else None

    def _refuse(self, status: int) -> None:
        """Raise where asking the same again is of no use."""
        if status in REJECTED:
            raise Unusable("rejected_by_server", f"status {status}", again=False)
        if status != 200 and status < 500 and status not in TRANSIENT:
            raise Misconfigured(
                f"{self._endpoint.url} answers {status}: look at address, model and key"
            ) from None

    def _request(self, prompt: str, audio: Samples | None, again: Unusable | None) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if audio is not None:
            data = base64.b64encode(wav_bytes(audio)).decode()
            parts.insert(0, {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
        messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        max_tokens = self._endpoint.max_tokens
        if again is not None and again.reason == "truncated":
            max_tokens *= RETRIES_TOKENS
        elif again is not None and again.reply:
            wrong = (
                f"This reply cannot be used ({again}). Reply again, exactly in the form that was asked for."
            )
            messages += [{"role": "assistant", "content": again.reply}, {"role": "user", "content": wrong}]
        return {
            "model": self._endpoint.model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": self._endpoint.temperature,
        }


def wav_bytes(audio: Samples) -> bytes:
    """int16 `[n]` at 16 kHz as a WAV file."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(audio.astype("<i2").tobytes())
    return sink.getvalue()


def _message(raw: bytes) -> tuple[dict[str, Any], str | None] | None:
    """The message of the first choice and why it ended; None for what is no chat completion."""
    try:
        choice = json.loads(raw)["choices"][0]
        message = choice["message"]
        return (message, choice.get("finish_reason")) if isinstance(message, dict) else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _text(message: dict[str, Any], ended: str | None) -> str:
    content = message.get("content")
    if isinstance(content, list):
        pieces = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(piece for piece in pieces if isinstance(piece, str))
    if message.get("refusal") or ended == "content_filter":
        raise Unusable("refusal")
    if ended == "length":
        raise Unusable("truncated")
    if not isinstance(content, str) or not content.strip():
        raise Unusable("empty")
    return content
