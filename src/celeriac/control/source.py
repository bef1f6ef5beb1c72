"""Where declarations come from: a file that may change while it is watched, or a fixed list."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from celeriac.spec.load import Problem, SpecError, load_queues
from celeriac.spec.queue import MessageQueue, change_errors

logger = logging.getLogger(__name__)

#: A file this young (seconds) may change again within the same tick of its time stamp.
_YOUNG_S = 2.0


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is declared now. With a ``problem``, it is what was declared before."""

    queues: tuple[MessageQueue, ...]
    problem: str = ""


class Source(Protocol):
    """Says what is declared."""

    def read(self) -> Declaration:
        """Read what is declared now. Does not raise."""
        ...


class FixedSource:
    """A list of queues; ``replace`` it to declare others."""

    def __init__(self, queues: Sequence[MessageQueue]) -> None:
        self._queues = tuple(queues)

    def read(self) -> Declaration:
        return Declaration(self._queues)

    def replace(self, queues: Sequence[MessageQueue]) -> None:
        """Declare these from now on."""
        self._queues = tuple(queues)


class FileSource:
    """Files of queues, read again when they change. Raises SpecError when the first read fails.

    A file that is broken later changes nothing: the last good declaration stays in force, and the
    problem is told.
    """

    def __init__(self, *paths: str | Path) -> None:
        self._paths = [Path(path) for path in paths]
        self._stamp = self._look()
        self._good = self._load()
        self._problem = ""

    def read(self) -> Declaration:
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            self._reload()
        return Declaration(self._good, self._problem)

    def _reload(self) -> None:
        try:
            loaded = self._load()
            self._refuse_changes(loaded)
        except SpecError as error:
            if str(error) != self._problem:
                logger.error("the last good declaration stays in force:\n%s", error)
            self._problem = str(error)
            return
        if loaded != self._good or self._problem:
            logger.info("read %s again", ", ".join(str(path) for path in self._paths))
        self._good, self._problem = loaded, ""

    def _load(self) -> tuple[MessageQueue, ...]:
        queues: list[MessageQueue] = []
        problems: list[Problem] = []
        for path in self._paths:
            try:
                loaded = load_queues(path)
            except SpecError as error:
                problems += error.problems
                continue
            known = {name for queue in queues for name in (queue.name, queue.queue_name)}
            for queue in loaded:
                if {queue.name, queue.queue_name} & known:
                    text = f"{queue.name!r} is declared in another file already: rename one"
                    problems.append(Problem(str(path), 1, "metadata.name", text))
            queues += loaded
        if problems:
            raise SpecError(problems)
        return tuple(queues)

    def _refuse_changes(self, loaded: Sequence[MessageQueue]) -> None:
        before = {queue.name: queue for queue in self._good}
        problems = [
            Problem(str(self._paths[0]), 1, f"{queue.name}: spec.queue", text)
            for queue in loaded
            if queue.name in before
            for text in change_errors(before[queue.name], queue)
        ]
        if problems:
            raise SpecError(problems)

    def _look(self) -> tuple[object, ...]:
        marks: list[object] = []
        for path in self._paths:
            try:
                seen = path.stat()
                marks += [seen.st_ino, seen.st_size, seen.st_mtime_ns]
                if time.time() - seen.st_mtime < _YOUNG_S:
                    marks.append(path.read_bytes())
            except OSError as error:
                marks.append(error.errno)
        return tuple(marks)
