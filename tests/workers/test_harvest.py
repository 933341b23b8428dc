"""Audio taken back from production, on real Kafka and PostgreSQL: with consent only, and nothing personal or erased."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.answers import TextAnswer, Word
from model.dataflux import doubt, personal
from model.dataflux.clips import listed
from model.dataflux.prompts import load
from storage.erasure import Scope, digest
from streams.windows import Track, Window
from tests.servers.kafka import Broker
from tests.sim.scenario import speech_like
from tests.workers.history import Hasher, Written, call, history_settings, key_of, live, rows, write
from workers.erase import erase
from workers.harvest import GUARD_SAMPLES, Asked, take
from workers.kafka_admin import create_topics
from workers.pool import Analysis
from workers.recordings import read_audio
from workers.replay import read_through
from workers.settings import Settings, SettingsError, load_settings

SAID = {
    "sure": ("thank you for calling us today", 0.9, 0.9),
    "doubtful": ("the the weather in an hour", 0.2, 0.2),
    "split": ("please hold the line", 0.6, 0.1),
    "number": ("it is four one seven two", 0.1, 0.1),
    "mixed": ("the the weather in an hour", 0.2, 0.2),
    "empty": ("", 0.1, 0.1),
}


# The same windows as another run, or a later revision, has them.
COLUMNS = (
    "tenant_id, stream_id, session_id, channel, segment_id, start_sample, end_sample, start_ms, end_ms, is_final, "
    "language, confidence, model"
)
AGAIN = (
    f"INSERT INTO transcripts ({COLUMNS}, ce_id, run_id, revision, text) "
    f"SELECT {COLUMNS}, ce_id || '{{run}}', '{{run}}', {{revision}}, $2 FROM transcripts WHERE stream_id = $1"
)


class Says(Hasher):
    """Says the same in every window of a stream, but for `mixed`: a card is asked for first."""

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        text, confidence, heard = SAID[window.key.stream_id.partition("-")[0]]
        if window.key.stream_id == "mixed" and window.start_sample < GUARD_SAMPLES:
            text, confidence = "now please tell me your card number", 0.95
        words = tuple(Word(word, 0, 10, heard) for word in text.split())
        answer = TextAnswer(tasks[0], text, "en", confidence, words, "ctc")
        return Analysis((answer,) if window.track is Track.SPEECH else (), "says", "1")


def marked(records: list[Written], value: bytes, first: int = 0) -> list[Written]:
    """The same records with what they say of consent, from the `first` on."""
    for one in records[first:]:
        one.headers.append(("ce_consent", value))
    return records


@pytest.fixture
async def settings(kafka: Broker, database_url: str, topic_prefix: str) -> Settings:
    """Streams that are named for what the model makes of them, of tenants with and without consent."""
    consent = {"acme": "all", "strict": "marked", "gone": "all"}
    made = history_settings(kafka, topic_prefix, database_url, harvest_consent=consent)
    await create_topics(made)
    records = []
    for number, stream in enumerate(("sure", "doubtful", "split", "number", "empty")):
        records += call(key_of(stream, "s1"), number + 1)
    records += call(key_of("mixed", "s1"), 9, 40.0)
    records += marked(call(key_of("doubtful-out", "s1"), 11), b"none", first=5)
    records += call(key_of("doubtful", "s1", "shy"), 12)
    records += call(key_of("doubtful", "s1", "strict"), 13)
    records += marked(call(key_of("doubtful", "s2", "strict"), 14), b"training")
    records += marked(call(key_of("doubtful", "s3", "strict"), 15), b"training", first=1)
    records += call(key_of("doubtful", "s1", "gone"), 16)
    records += call(key_of("doubtful-red", "s1"), 17)
    await write(made, records)
    await live(made, Says())
    await rows(made, AGAIN.format(run="again", revision=0), "sure", "thank you for calling us tuesday")
    await rows(made, AGAIN.format(run="live", revision=1), "doubtful-red", "the the weather in")
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "harvest.jsonl").read_text().splitlines()]


async def test_what_is_harvested_is_consented_doubtful_not_personal_and_goes_when_it_must(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "harvest"
    nothing = await take(settings.model_copy(update={"harvest_consent": {}}), Asked(out))
    assert (nothing.looked_at, nothing.taken) == (0, 0)

    await erase(settings, Scope("gone"))
    before = await rows(settings, "SELECT count(*), max(id) FROM transcripts")
    done = await take(settings, Asked(out))
    stored = {
        (tenant, stream, session): windows
        for tenant, stream, session, windows in await rows(
            settings,
            "SELECT tenant_id, stream_id, session_id, array_agg((start_sample, end_sample) ORDER BY start_sample) "
            "FROM transcripts WHERE run_id = 'live' AND revision = 0 GROUP BY 1, 2, 3",
        )
    }
    mixed = stored["acme", "mixed", "s1"]
    early, late = [s for s in mixed if s[0] < GUARD_SAMPLES], [s for s in mixed if s[0] >= GUARD_SAMPLES]
    cleared = [one for one in late if one[0] - GUARD_SAMPLES >= early[-1][1]]
    assert 0 < len(cleared) < len(late)
    wanted = {  # with the seed and the seconds of its audio
        ("acme", "doubtful", "s1"): (2, 5.0, "low_confidence", stored["acme", "doubtful", "s1"]),
        ("acme", "sure", "s1"): (1, 5.0, "runs_differ", stored["acme", "sure", "s1"]),
        ("acme", "split", "s1"): (3, 5.0, "witnesses_differ", stored["acme", "split", "s1"]),
        ("acme", "mixed", "s1"): (9, 40.0, "low_confidence", cleared),
        ("strict", "doubtful", "s2"): (14, 5.0, "low_confidence", stored["strict", "doubtful", "s2"]),
    }
    found = lines(out)
    for (tenant, stream, _), (seed, seconds, why, spans) in wanted.items():
        mine = [one for one in found if one["stream"] == digest(tenant, stream)]
        assert [(one["start_sample"], one["end_sample"]) for one in mine] == spans
        said = speech_like(np.random.default_rng(seed), seconds, 1)[:, 0]
        for one in mine:  # the very samples that the worker analysed
            audio = read_audio(out / one["audio"], 16_000)
            assert np.array_equal(audio, said[one["start_sample"] : one["end_sample"]])
            assert (one["why"], one["tenant"]) == ([why], digest(tenant))
    assert done.taken == len(found) == sum(len(spans) for *_, spans in wanted.values())
    refused = ("acme", "doubtful-out", "s1"), ("strict", "doubtful", "s1"), ("strict", "doubtful", "s3")
    assert done.left_out == {
        "personal data": len(stored["acme", "number", "s1"]) + len(early),
        "redacted": len(stored["acme", "doubtful-red", "s1"]),
        "personal data nearby": len(late) - len(cleared),
        "no consent for the session": sum(len(stored[key]) for key in refused),
    }
    assert not any(key[0] == "gone" for key in stored)
    assert await rows(settings, "SELECT count(*), max(id) FROM transcripts") == before
    written = (out / "harvest.jsonl").read_text()
    assert not any(word in written for word in ("acme", "strict", "weather", "doubtful", "please hold"))
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (out / "audio").iterdir()} == {0o600}
    clips = list(listed(out / "harvest.jsonl", load().categories, datetime.now(UTC)))
    assert len(clips) == len(found)
    assert clips[0].licence == "LicenseRef-customer-consented"
    assert len(clips[0].load().audio) > 0

    again = await take(settings, Asked(out))
    assert (again.taken, again.known, again.deleted) == (0, done.taken, 0)
    await erase(settings, Scope("acme", "split"))
    after = await take(settings, Asked(out))
    assert after.deleted == len(stored["acme", "split", "s1"])
    withdrawn = settings.model_copy(update={"harvest_consent": {"acme": "all"}})
    assert (await take(withdrawn, Asked(out))).deleted == len(stored["strict", "doubtful", "s2"])
    for line in (kept := lines(out)):
        line["expires"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    (out / "harvest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    (out / "audio" / "stray.wav").write_bytes(b"of a call that was cut off")
    assert (await take(withdrawn, Asked(out, limit=1))).deleted == len(kept)
    assert len(list((out / "audio").iterdir())) == len(lines(out)) == 1

    async def erased_first(*arguments: Any) -> int:
        await erase(settings, Scope("strict"))
        return await read_through(*arguments)

    # an erasure that comes between looking and reading wins
    monkeypatch.setattr("workers.harvest.read_through", erased_first)
    alone = settings.model_copy(update={"harvest_consent": {"strict": "all"}})
    beaten = await take(alone, Asked(tmp_path / "other"))
    assert (beaten.taken, list(beaten.left_out)) == (0, ["erased"])
    assert list((tmp_path / "other" / "audio").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("my number is four one seven two", "number"),
        ("call me on 555-0142", "number"),
        ("jane at example dot com", "mail"),
        ("b as in bravo", "spelling"),
        ("my last name comes first", "name"),
        ("this is jane speaking", "name"),
        ("i spoke to mister miller", "name"),
        ("and then Jane called again", "name"),
        ("may the twenty third", "date"),
        ("twelve oak street", "address"),
        ("what is your policy number", "secret"),
        ("i have one question about two things", None),
        ("this is a test of the line", None),
        ("Please hold the line. Thank you.", None),
    ],
)
def test_what_counts_as_personal(text: str, kind: str | None) -> None:
    assert (kind in personal.found(text)) if kind else (personal.found(text) == [])
    assert personal.clear(text, "en") == (kind is None)
    assert not personal.clear(text, "de")


def test_a_window_is_doubtful_for_what_its_witnesses_say() -> None:
    def of(text: str, confidence: float, words: tuple[float, ...] = (), *others: str) -> list[str]:
        return doubt.reasons(doubt.Seen(text, confidence, words, others), 0.5)

    assert of("hello there", 0.8, (0.9, 0.8), "Hello, there!") == []
    assert of("hello there", 0.3, (0.35, 0.35)) == ["low_confidence"]
    assert of("hello there", 0.6, (0.1, 0.1)) == ["witnesses_differ"]
    assert of("hello there", 0.4, (0.9, 0.9), "hello dear") == [
        "low_confidence",
        "witnesses_differ",
        "runs_differ",
    ]
    assert of("", 0.1) == []
    assert of("", 0.9, (), "hello") == ["runs_differ"]


def test_endpoints_and_consent_are_settings_and_their_secrets_are_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = {"url": "https://judge.internal/v1", "model": "m", "key": "canary-key"}
    (tmp_path / "eureka_dataflux_judge").write_text(json.dumps(judge))
    monkeypatch.setenv("EUREKA_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("EUREKA_HARVEST_CONSENT", '{"acme": "marked"}')
    read = load_settings()
    assert read.harvest_consent == {"acme": "marked"}
    assert read.dataflux_judge is not None
    assert read.dataflux_judge.key is not None
    assert read.dataflux_judge.key.get_secret_value() == "canary-key"
    assert "canary" not in repr(read)
    for name, wrong in (
        ("HARVEST_CONSENT", '{"acme": canary'),
        ("HARVEST_CONSENT", '{"acme": "canary"}'),
        ("DATAFLUX_ANSWERERS", '[{"url": "https://user:canary@host/v1", "model": "m"}]'),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"EUREKA_{name}", wrong)
            with pytest.raises(SettingsError, match=name.lower()) as refused:
                load_settings()
            assert "canary" not in str(refused.value)
