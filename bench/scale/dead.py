"""A million dead letters: how long a page takes, plain or filtered, wherever one looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.harness.report import percentile
from bench.harness.server import Place
from bench.harness.usage import used_memory
from bench.scale.fill import ERRORS, bury, fresh
from celeriac.broker.message import DeadMessage
from celeriac.broker.queue import Queue
from celeriac.spec.policies import DeadLetterPolicy, QueuePolicy

PAGE = 100
PAGES = 50
WANTED = "below 200 ms"


def measure(here: Place, count: int) -> Iterator[Sequence[str]]:
    """Rows: what, how much, what was wanted."""
    queue = fresh(here, QueuePolicy(dead_letter=DeadLetterPolicy(max_messages=10_000_000)))
    before = used_memory(here.client)
    bury(queue, count)
    dead = queue.stats().dead
    if dead != count:
        raise AssertionError(f"{count} died, {dead} are there")
    each = (used_memory(here.client) - before) / count
    yield f"memory of a dead letter, of {count:,}", f"{each:.0f} bytes", ""
    yield "page of 100, newest first", _pages(lambda before: queue.dead(before=before)), WANTED
    middle = _middle(here, queue)
    yield "page of 100, from the middle", _pages(lambda b: queue.dead(before=b), middle), WANTED
    for error, share in ((ERRORS[0], "2"), (ERRORS[2], "1,000")):
        yield f"page of a filter that fits one in {share}", _filtered(queue, error), WANTED
    yield "page of a filter that fits nothing", _filtered(queue, "NoSuchError"), WANTED


def _middle(here: Place, queue: Queue) -> str:
    info: Any = here.client.xinfo_stream(queue.keys.dead)
    first, last = (int(info[f"{end}-entry"][0].partition(b"-")[0]) for end in ("first", "last"))
    return f"{(first + last) // 2}-0"


def _pages(page: Callable[[str], list[DeadMessage]], before: str = "") -> str:
    took: list[float] = []
    for _ in range(PAGES):
        begun = time.perf_counter()
        letters = page(before)
        took.append((time.perf_counter() - begun) * 1e3)
        if len(letters) != PAGE:
            raise AssertionError(f"a page of {len(letters)}")
        before = letters[-1].entry
    return f"{percentile(took, 0.5):.1f} ms (longest {max(took):.1f})"


def _filtered(queue: Queue, error: str) -> str:
    took, found, before = [], 0, ""
    while found < PAGE:
        begun = time.perf_counter()
        page = queue.search_dead(error=error, before=before, count=PAGE - found)
        took.append((time.perf_counter() - begun) * 1e3)
        found, before = found + len(page.letters), page.before
        if any(letter.error != error for letter in page.letters):
            raise AssertionError("found what was not looked for")
        if not before:
            break
    return (
        f"{percentile(took, 0.5):.1f} ms (longest {max(took):.1f}); "
        f"{found} found on {len(took)} pages in {sum(took):.0f} ms"
    )
