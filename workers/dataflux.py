"""What `eureka dataflux run` runs: the closed loop of `model.dataflux`, with roles filled as the settings say.

In: settings, what is asked for. Out: a folder with journal, manifests, report and pictures, and what was done. It
knows no prompt and no protocol. Invariants: a folder is one run, and the same call goes on with it; keys are read from
settings alone and are in nothing that is written; whatever happens, the report tells of what is finished.
"""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import load
from model.dataflux import clips as clip_lists
from model.dataflux import loop, made, manifests, pictures, prompts, report
from model.dataflux import score as scoring
from model.dataflux.chat import Chat, Endpoint
from model.dataflux.errors import Misconfigured
from model.dataflux.journal import Journal
from model.dataflux.local import FactsJudge, FactsWriter, TruthCaptioner
from model.dataflux.outcomes import outcomes
from model.dataflux.prompts import Prompts
from model.dataflux.remote import RemoteAnswerer, RemoteCaptioner, RemoteJudge, RemoteWriter
from model.dataflux.roles import Answerer, Captioner, Judge, Team, Writer, enough
from model.dataflux.values import Clip
from model.dataflux.witnesses import TELLS, Ears, LettersWitness, Witness
from model.device import choose
from model.engine import Engine
from model.train import manifest
from model.train.sounds import Recordings, load_recordings
from workers.settings import ChatEndpoint, Settings

Say = Callable[[str], None]
WITNESSES = ("question", "caption", "signal")
TOLD_EVERY = 10  # clips


@dataclass(frozen=True)
class Asked:
    """`clips`: a list of raw audio, else `scenes` are made. `witnesses`: WAY or WAY@CHECKPOINT, answering locally."""

    out: Path
    clips: Path | None = None
    scenes: int = 40
    seed: int = 1000
    questions: int = 5
    parallel: int = 4
    attempts: int = 3
    witnesses: tuple[str, ...] = ()
    prompts: Path | None = None
    recordings: Path | None = None
    sounds: Path | None = None


@dataclass(frozen=True)
class Done:
    """Of this call: `finished` clips, `known` from before, `left` for the next one. The rest: of the whole folder."""

    folder: str
    finished: int
    known: int
    left: int
    clips: int
    questions: int
    kept: int
    hard: int
    consensus: float | None
    discarded: dict[str, int]
    clips_discarded: dict[str, int]
    files: dict[str, int]


async def run(settings: Settings, asked: Asked, say: Say) -> Done:
    """Run, or go on. Raises Misconfigured, and Unreachable where an endpoint stays away.

    Manifests and report of all that is finished are written in any case.
    """
    texts = prompts.load(asked.prompts or prompts.FOLDER)
    _consistent(settings, asked)
    async with AsyncExitStack() as stack:
        chats: dict[str, Chat] = {}
        team = await _team(settings, asked, texts, stack, chats)
        # numbers of clips may grow from call to call; what a step's value depends on may not change
        identity = {
            "format": 1,
            "prompts": texts.version,
            "roles": dict(team.described),
            "questions": asked.questions,
            "seed": asked.seed,
        }
        with Journal(asked.out, identity) as journal:
            progress = loop.Progress()
            limits = loop.Limits(attempts=asked.attempts, parallel=asked.parallel, seed=asked.seed)
            keep = clip_lists.keeper(asked.out)
            try:
                await loop.run(
                    _clips(asked, texts), team, journal, limits, keep, progress, _teller(progress, say)
                )
            finally:
                done = _write(asked.out, journal, team, texts, progress)
    for role, chat in chats.items():
        if chat.tried_again:
            times = ", ".join(f"{why} {count}" for why, count in chat.tried_again.most_common())
            say(f"{role}: requests that had to be sent again: {times}")
    for reason in sorted(progress.why_left):
        say(f"left for the next run: {reason}")
    return done


def score(settings: Settings, questions: Path, checkpoint: Path | None, device: str | None) -> dict[str, Any]:
    """How many questions of a manifest a checkpoint gets right. Raises ManifestError, CheckpointError, ValueError."""
    placement = choose(
        device or settings.device.split(",")[0], False, half=None if settings.engine_half else False
    )
    loaded = load(checkpoint or settings.checkpoint, placement.device, placement.dtype)
    found = scoring.score(loaded, placement, manifest.read(questions), settings.engine_threads)
    return {"model": loaded.config.name, "sha256": loaded.sha256[:8]} | asdict(found)


def _consistent(settings: Settings, asked: Asked) -> None:
    """Raises Misconfigured for roles that cannot work together."""
    local_writer = settings.dataflux_writer is None
    if asked.clips is not None and settings.dataflux_captioner is None:
        raise Misconfigured(
            "recordings need somebody who describes them: set EUREKA_DATAFLUX_CAPTIONER (or make scenes)"
        )
    if settings.dataflux_captioner is not None and local_writer:
        raise Misconfigured("what a model describes only a model can ask about: set dataflux_writer")
    if not local_writer and settings.dataflux_judge is None:
        raise Misconfigured("questions of a model need a judge that reads: set dataflux_judge")
    ways = [name.partition("@")[0] for name in _local(settings, asked)]
    wrong = [way for way in ways if way not in TELLS]
    if wrong:
        raise Misconfigured(f"no way to answer is called {wrong[0]}: {', '.join(TELLS)}")
    if not local_writer and set(ways) - {"letters"}:
        raise Misconfigured(
            "what a model asks only endpoints (dataflux_answerers) and the way `letters` can answer"
        )
    enough(len(settings.dataflux_answerers) + len(set(_local(settings, asked))))


def _local(settings: Settings, asked: Asked) -> tuple[str, ...]:
    """The local answerers: those asked for; all of them where no endpoint answers."""
    return asked.witnesses or (() if settings.dataflux_answerers else WITNESSES)


async def _team(
    settings: Settings, asked: Asked, texts: Prompts, stack: AsyncExitStack, chats: dict[str, Chat]
) -> Team:
    """Everybody, each with an open connection where one is needed; these are put into `chats`."""

    async def chat(role: str, endpoint: ChatEndpoint) -> Chat:
        chats[role] = await stack.enter_async_context(Chat(endpoint_of(endpoint)))
        return chats[role]

    described: dict[str, str] = {}
    captioner: Captioner = TruthCaptioner()
    writer: Writer = FactsWriter(asked.questions, asked.seed, _answerable(settings, asked))
    judge: Judge = FactsJudge()
    described["captioner"], described["writer"] = "the truth of made scenes", "the facts of made scenes"
    described["judge"] = "rules, against the facts"
    if settings.dataflux_captioner is not None:
        captioner = RemoteCaptioner(await chat("captioner", settings.dataflux_captioner), texts)
        described["captioner"] = settings.dataflux_captioner.model
    if settings.dataflux_writer is not None:
        writer = RemoteWriter(await chat("writer", settings.dataflux_writer), texts, asked.questions)
        described["writer"] = settings.dataflux_writer.model
    if settings.dataflux_judge is not None:
        judge = RemoteJudge(await chat("judge", settings.dataflux_judge), texts)
        described["judge"] = settings.dataflux_judge.model
    answerers: dict[str, Answerer] = {}
    for endpoint in settings.dataflux_answerers:
        name = _free(endpoint.model, answerers)
        answerers[name] = RemoteAnswerer(await chat(f"answerer {name}", endpoint), texts)
        described[f"answerer {name}"] = endpoint.model
    local = _witnesses(settings, _local(settings, asked))
    for name, witness in local.items():
        answerers[name] = witness
        described[f"answerer {name}"] = _described(name, local)
    return Team(captioner, writer, answerers, judge, described)


def _answerable(settings: Settings, asked: Asked) -> frozenset[str] | None:
    """The aspects that two of the local answerers can tell; None (any) where endpoints answer as well."""
    if settings.dataflux_answerers:
        return None
    told = Counter(
        aspect for name in set(_local(settings, asked)) for aspect in TELLS[name.partition("@")[0]]
    )
    return frozenset(aspect for aspect, count in told.items() if count > 1)


def _witnesses(settings: Settings, names: Sequence[str]) -> dict[str, Witness | LettersWitness]:
    """Our checkpoints as answerers; each checkpoint is loaded once."""
    ears: dict[Path, Ears] = {}
    found: dict[str, Witness | LettersWitness] = {}
    for name in dict.fromkeys(names):
        way, _, checkpoint = name.partition("@")
        path = Path(checkpoint) if checkpoint else settings.checkpoint
        if path not in ears:
            engine = Engine.open(
                path,
                device=settings.device.split(",")[0],
                compile=None if settings.engine_compile else False,
                half=None if settings.engine_half else False,
                threads=settings.engine_threads,
            )
            ears[path] = Ears(engine)
        plain = f"{way}@{path.stem}" if checkpoint else way
        kind = LettersWitness(ears[path]) if way == "letters" else Witness(ears[path], way)
        found[_free(plain, found)] = kind
    return found


def _described(name: str, witnesses: Mapping[str, Witness | LettersWitness]) -> str:
    """Who a local answerer is, and what it shares with the others: agreement among kin counts for less."""
    mine = witnesses[name]
    if mine.way == "signal":
        return f"arithmetic on the samples; only whether words are spoken comes from {mine.ears.name}"
    kin = [
        other
        for other, one in witnesses.items()
        if other != name and one.ears is mine.ears and one.way != "signal"
    ]
    shared = f"; the same weights as {', '.join(kin)}" if kin else ""
    return f"{mine.ears.name}, by {mine.way}{shared}"


def _clips(asked: Asked, texts: Prompts) -> Iterable[Clip]:
    if asked.clips is not None:
        return clip_lists.listed(asked.clips, texts.categories, datetime.datetime.now(datetime.UTC))
    recordings = Recordings((), ())
    if asked.recordings is not None and asked.recordings.is_dir():
        recordings = load_recordings(asked.recordings / "debian", asked.sounds, held_out=False)
    return made.clips(asked.scenes, asked.seed, recordings)


def _write(folder: Path, journal: Journal, team: Team, texts: Prompts, progress: loop.Progress) -> Done:
    """Manifests, report and pictures of all that is finished."""
    answerers = list(team.answerers)
    lines = list(journal.lines())
    clips = outcomes(lines, answerers)
    files = manifests.write(folder, clips)
    told = report.report(clips, lines, team.described, answerers, texts.version)
    _replace(folder / "report.json", json.dumps(report.as_json(told), indent=1, ensure_ascii=False) + "\n")
    drawn = pictures.draw(folder, told, clips)
    _replace(folder / "report.md", report.page(told, drawn))
    return Done(
        folder=str(folder),
        finished=progress.finished,
        known=progress.known,
        left=progress.left,
        clips=told.clips,
        questions=told.questions,
        kept=told.kept.count,
        hard=told.hard.count,
        consensus=told.consensus.share,
        discarded=told.questions_discarded,
        clips_discarded=told.clips_discarded,
        files=files,
    )


def endpoint_of(of: ChatEndpoint) -> Endpoint:
    """A setting as the client wants it."""
    return Endpoint(
        url=of.url,
        model=of.model,
        key=of.key,
        timeout_s=of.timeout_s,
        attempts=of.attempts,
        first_wait_s=of.retry_first_s,
        most_wait_s=of.retry_max_s,
        max_tokens=of.max_tokens,
        temperature=of.temperature,
    )


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """A name without a slash (steps of the journal are paths) that no other answerer has."""
    name = name.replace("/", "-")
    return (
        name if name not in taken else next(f"{name}#{n}" for n in range(2, 10) if f"{name}#{n}" not in taken)
    )


def _teller(progress: loop.Progress, say: Say) -> Callable[[Clip], None]:
    def tell(clip: Clip) -> None:
        if progress.finished % TOLD_EVERY == 0:
            say(f"{progress.finished} clips finished")

    return tell


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
