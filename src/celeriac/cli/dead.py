"""How dead letters are picked and written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from celeriac.broker.signing import split
from celeriac.cli import output
from celeriac.cli.durations import ago
from celeriac.cli.output import Cell, Column

if TYPE_CHECKING:
    from celeriac.broker.message import DeadMessage


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; what is None does not matter."""

    reason: str | None = None
    error: str | None = None
    task: str | None = None
    since: timedelta | None = None

    @property
    def given(self) -> bool:
        """Tell whether anything is filtered."""
        return any(part is not None for part in (self.reason, self.error, self.task, self.since))

    def matches(self, letter: DeadMessage) -> bool:
        """Tell whether reason, task and error class fit; the class may leave out its module."""
        return (
            _fits(self.reason, letter.reason)
            and _fits(self.task, letter.task)
            and (
                _fits(self.error, letter.error)
                or _fits(self.error, letter.error.rpartition(".")[2])
            )
        )

    def texts(self) -> dict[str, str]:
        """What the server can look for by itself: a part of every pattern."""
        patterns = {"reason": self.reason, "task": self.task, "error": self.error}
        return {field: _literal(pattern) for field, pattern in patterns.items() if pattern}

    def too_old(self, dead_ms: int, now_ms: int) -> bool:
        """Tell whether something died before the time of interest."""
        if self.since is None:
            return False
        return dead_ms < now_ms - self.since / timedelta(milliseconds=1)


def _literal(pattern: str) -> str:
    """The longest part of a pattern that stands in whatever fits, spelled alike everywhere."""
    plain = re.sub(r"\[[^]]*\]?[^]]*\]", "*", pattern)
    return max(re.findall(r"[A-Za-z0-9_.-]+", plain), key=len, default="")


def _fits(pattern: str | None, text: str) -> bool:
    return pattern is None or fnmatchcase(text.lower(), pattern.lower())


def timestamp(ms: int) -> str:
    """A time as text: UTC, to the millisecond."""
    return (
        datetime.fromtimestamp(ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def columns(*, wide: bool = False) -> list[Column]:
    """Name the columns of a table of dead letters."""
    head = [Column("ID"), Column("TASK"), Column("REASON"), Column("ERROR")]
    if wide:
        head += [Column("PRIORITY"), Column("ENTRY"), Column("ATTEMPTS", right=True)]
        head += [Column("DELIVERIES", right=True)]
    return [*head, Column("DIED", right=True), Column("MESSAGE")]


def row(letter: DeadMessage, now_ms: int, *, wide: bool = False) -> list[Cell]:
    """Write the cells of a dead letter, in the order of `columns`."""
    cells: list[Cell] = [letter.id or letter.entry, letter.task or None, letter.reason]
    cells.append(letter.error or None)
    if wide:
        cells += [letter.priority, letter.entry, letter.attempt, letter.delivery]
    died = ago((now_ms - letter.dead_ms) / 1000) + " ago"
    message = letter.message if wide or len(letter.message) <= 60 else letter.message[:59] + "…"
    return [*cells, died, message or None]


def print_letters(letters: Sequence[DeadMessage], now_ms: int, *, wide: bool = False) -> None:
    """Print a table, or where the terminal is too narrow for one, two lines for each letter."""
    titles, rows = columns(wide=wide), [row(one, now_ms, wide=wide) for one in letters]
    if wide or not output.on_terminal() or output.fits(titles, rows):
        output.print_table(titles, rows)
        return
    for name, task, reason, error, died, message in rows:
        click.secho(f"{name}  {reason}, {died}", bold=not output.no_colour())
        click.echo("  " + ": ".join(str(cell) for cell in (task, error, message) if cell))


def json_of(letter: DeadMessage, *, history: bool = False, payload: bool = False) -> dict[str, Any]:
    """A dead letter as JSON; its body only when asked for."""
    record: dict[str, Any] = {
        "entry": letter.entry,
        "id": letter.id,
        "task": letter.task,
        "priority": letter.priority,
        "reason": letter.reason,
        "error": letter.error,
        "message": letter.message,
        "attempts": letter.attempt,
        "deliveries": letter.delivery,
        "enqueuedAt": timestamp(letter.enqueued_ms),
        "diedAt": timestamp(letter.dead_ms),
        "bodyBytes": letter.body_bytes,
    }
    if history:
        record["history"] = [_history(line) for line in letter.history]
    if payload:
        signature, head = split(letter.head)
        record["headers"] = _decoded(head) if head else {}
        record["signedBy"] = signature[0] if signature else None
        record["body"] = _decoded(letter.body)
    return record


def _history(line: dict[str, Any]) -> dict[str, Any]:
    """A history line with times that people can read."""
    known = dict(line)
    for ms, at in (("startedMs", "startedAt"), ("endedMs", "endedAt")):
        if known.get(ms):
            known[at] = timestamp(known.pop(ms))
    return known


def _decoded(raw: bytes) -> Any:
    """JSON as it is, text as text, anything else as its repr."""
    try:
        read = json.loads(raw)
        json.dumps(
            read, ensure_ascii=False
        ).encode()  # what cannot be written again is shown as text
    except (ValueError, RecursionError):
        pass
    else:
        return read
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return repr(raw)


def show_text(letter: DeadMessage, queue: str, now_ms: int, *, payload: bool) -> list[str]:
    """A dead letter for reading: what it is, why it died, and every attempt, newest first."""
    died = ago((now_ms - letter.dead_ms) / 1000)
    facts = {
        "Message": letter.id,
        "Entry": letter.entry,
        "Queue": f"{queue} ({letter.priority} priority)",
        "Task": letter.task,
        "Enqueued": timestamp(letter.enqueued_ms),
        "Died": f"{timestamp(letter.dead_ms)} ({died} ago)",
        "Reason": letter.reason,
        "Attempts": f"{letter.attempt} (finished runs)",
        "Deliveries": f"{letter.delivery} (hand-outs to a worker)",
        "Payload": f"{letter.body_bytes} bytes" + ("" if payload else "; --payload shows them"),
    }
    lines = [f"{name + ':':<12}{value}" for name, value in facts.items()]
    lines += ["", "History, newest first:"]
    lines += [line for entry in letter.history for line in _history_text(entry)] or ["  (none)"]
    if payload:
        signature, head = split(letter.head)
        lines += ["", f"Signed by key {signature[0]}." if signature else "Not signed."]
        lines += ["", "Headers:"]
        lines += [json.dumps(_decoded(head or b"{}"), ensure_ascii=False, indent=2)]
        lines += ["", "Body:", json.dumps(_decoded(letter.body), ensure_ascii=False, indent=2)]
    lines += ["", f"Send it back with: celeriac dlq redrive {queue} {letter.id or letter.entry}"]
    return lines


def _history_text(entry: dict[str, Any]) -> list[str]:
    when = timestamp(entry["endedMs"]) if entry.get("endedMs") else "?"
    head = f"  {when}  attempt {entry.get('attempt', '?')}, delivery {entry.get('delivery', '?')}"
    if entry.get("startedMs") and entry.get("endedMs"):
        head += f", ran {max(0, entry['endedMs'] - entry['startedMs'])} ms"
    head += f": {entry.get('reason', '?')}"
    lines = [head]
    error = " ".join(f"{entry.get('error', '')}: {entry.get('message', '')}".strip(": ").split())
    if error:
        lines.append(f"      {error}")
    where = [f"worker {entry['worker']}"] if entry.get("worker") else []
    where += [f"traceback {entry['digest']}"] if entry.get("digest") else []
    if where:
        lines.append(f"      {', '.join(where)}")
    return lines
