"""What a person sees of a demo: results in a table as they arrive, then the summary.

In: messages and figures. Out: text on a rich console; a live table where it is a terminal, plain lines
elsewhere. It judges nothing.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workers.cli_output import result_line, what
from workers.demo_tally import Received, Summary

SHOWN = 18
FRAME_LINES = 6  # title, header and borders
STYLES = {
    "transcript": "bold green",
    "caption": "cyan",
    "event": "yellow",
    "deadletter": "bold red",
    "alert": "red",
}


class View:
    """The live part; `show` takes each message, `progress` the seconds played."""

    def __init__(self, console: Console, live: Live | None, streams: Sequence[str]) -> None:
        self._console = console
        self._live = live
        self._streams = streams
        self._last: deque[list[Received]] = deque(maxlen=SHOWN)  # rows; events of one place share one
        self._title = ""

    def show(self, message: Received) -> None:
        """One more result."""
        if self._last and _same_place(self._last[-1][-1], message):
            self._last[-1].append(message)
        else:
            self._last.append([message])
        if self._live is None:
            self._console.print(
                "%-10s %s" % (message.kind, result_line(message.fields)),
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        else:
            self._live.update(self._table())

    def progress(self, played_s: float, length_s: float, counted: int) -> None:
        """How far the streams have come."""
        self._title = "%s · %.0f of %.0f s · %d results" % (
            ", ".join(self._streams),
            played_s,
            length_s,
            counted,
        )
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(title=self._title, expand=True, title_justify="left")
        for name, options in (
            ("stream", {"no_wrap": True}),
            ("from – to", {"no_wrap": True}),
            ("kind", {}),
            ("result", {"ratio": 1}),
        ):
            table.add_column(name, **options)
        fits = max(1, self._console.height - FRAME_LINES)  # the newest must not fall off a small terminal
        for row in list(self._last)[-fits:]:
            message, fields = row[0], row[0].fields
            role = fields.get("participant_role") or fields["channel"]
            start_ms, end_ms = fields["start_ms"], fields["end_ms"]
            when = (
                ""
                if start_ms is None or end_ms is None
                else "%5.1f – %.1f s" % (start_ms / 1000, end_ms / 1000)
            )
            table.add_row(
                "%s %s" % (fields["stream_id"], "" if role is None else role),
                when,
                Text(message.kind, STYLES[message.kind]),
                Text(" · ".join(what(each.fields) for each in row)),
            )
        return table


def _same_place(one: Received, other: Received) -> bool:
    place = ("stream_id", "channel", "start_ms", "end_ms")
    return one.kind == other.kind == "event" and all(one.fields[n] == other.fields[n] for n in place)


@contextmanager
def view(console: Console, streams: Sequence[str], *, quiet: bool) -> Iterator[View]:
    """A `View` for as long as results come; a quiet one shows nothing."""
    if quiet or not console.is_terminal:
        yield View(Console(quiet=True) if quiet else console, None, streams)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield View(console, live, streams)


def print_summary(console: Console, summary: Summary) -> None:
    """The figures, and what is wrong if anything is."""
    table = Table(title="summary", show_header=False, title_justify="left")
    rows = ", ".join("%d %s" % (count, name) for name, count in summary.rows.items() if count)
    messages = ", ".join("%d %s" % (count, name) for name, count in summary.messages.items() if count)
    p50, p95 = summary.latency_ms["p50"], summary.latency_ms["p95"]
    lines = {
        "streams": "%d, %.0f s of audio over all channels, %d windows"
        % (summary.streams, summary.audio_s, summary.windows),
        "rows in Postgres": rows,
        "messages on topics": messages,
        "end of speech to final": "-" if p50 is None else "p50 %d ms, p95 %d ms" % (p50, p95 or 0),
        "word error rate": _percent(summary.wer, "prompts whose texts were kept out of training"),
        "word error rate, caller": _percent(summary.wer_caller, "a synthetic voice that training knew"),
        "missing": str(summary.missing),
        "duplicated": str(summary.duplicates),
        "unpublished": str(summary.unpublished),
    }
    for name, value in lines.items():
        if value is not None:
            table.add_row(name, value)
    console.print(table)
    for problem in summary.problems[:20]:
        console.print(problem, style="bold red", markup=False)


def _percent(rate: float | None, of: str) -> str | None:
    return None if rate is None else "%.1f %% (%s)" % (100 * rate, of)
