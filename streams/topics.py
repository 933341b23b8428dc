"""The names of the six topics. Knows no broker; a prefix keeps several installations on one broker apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic names; `Topics.with_prefix("test-")` puts the same prefix before each."""

    chunks: str = "audio.chunks"
    transcripts: str = "audio.transcripts"
    captions: str = "audio.captions"
    events: str = "audio.events"
    alerts: str = "audio.alerts"
    deadletters: str = "audio.deadletters"

    @classmethod
    def with_prefix(cls, prefix: str) -> Topics:
        names = cls()
        return cls(
            chunks=prefix + names.chunks,
            transcripts=prefix + names.transcripts,
            captions=prefix + names.captions,
            events=prefix + names.events,
            alerts=prefix + names.alerts,
            deadletters=prefix + names.deadletters,
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The five topics that results go to."""
        return (self.transcripts, self.captions, self.events, self.alerts, self.deadletters)
