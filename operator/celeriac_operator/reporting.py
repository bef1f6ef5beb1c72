"""Writes statuses, no more often than anybody needs, and tells of transitions as Events.

What is true (conditions, workers, generations) is written at once. Counts move all the time, and every
write wakes all who watch: they are written when they have moved noticeably, and once they are at rest.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celeriac.spec.conditions import Condition, ConditionType, Reason
from celeriac.spec.status import NEVER_OBSERVED, MessageQueueStatus
from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError
from celeriac_operator.resources import Object, names
from celeriac_operator.seen import Key, QueueSeen

logger = logging.getLogger(__name__)

#: Counts that moved noticeably are written this often, others this often.
COUNTS_S = 5.0
REST_S = 60.0
#: What the API server says when something is applied that its schema does not have.
_UNDECLARED = "field not declared in schema"
_COUNTS = ("ready", "leased", "delayed", "dead")
_TOLD = (
    ConditionType.READY,
    ConditionType.STALLED,
    ConditionType.BROKER_REACHABLE,
    ConditionType.DEAD_LETTERS_PRESENT,
)
_ABNORMAL = (ConditionType.STALLED, ConditionType.DEAD_LETTERS_PRESENT)


def must_write(
    written: MessageQueueStatus | None, new: MessageQueueStatus, *, since_s: float
) -> bool:
    """Whether a status is worth a write, ``since_s`` after the last one. Pure."""
    if written is None or _facts(written) != _facts(new):
        return True
    if since_s < COUNTS_S:
        return False
    if _texts(written) != _texts(new):
        return True
    pairs = [(getattr(written, name), getattr(new, name)) for name in _COUNTS]
    if any(_noticeable(before, now) for before, now in pairs):
        return True
    if new.oldest_ready_seconds >= 2 * max(COUNTS_S, written.oldest_ready_seconds):
        return True  # an age grows all the time: tell each time that it has doubled
    return since_s >= REST_S and _without_clocks(written) != _without_clocks(new)


def _facts(status: MessageQueueStatus) -> tuple[Any, ...]:
    conditions = [
        (it.type, it.status, it.reason, it.observed_generation) for it in status.conditions
    ]
    return (
        *(status.observed_generation, status.replicas, status.ready_replicas, status.selector),
        *(status.desired_replicas, status.draining_replicas, status.scaling.limited_by),
        *(conditions, status.schedules),
    )


def _texts(status: MessageQueueStatus) -> list[str]:
    """What the conditions say, but for numbers."""
    return [re.sub(r"\d+", "#", it.message) for it in status.conditions]


def _noticeable(before: int, now: int) -> bool:
    if before == now:
        return False
    return not before or not now or abs(now - before) * 10 >= before


def _without_clocks(status: MessageQueueStatus) -> MessageQueueStatus:
    """The status without what moves with the clock alone."""
    scaling = status.scaling.model_copy(update={"hold_seconds": 0, "oldest_ready_seconds": 0})
    return status.model_copy(update={"scaling": scaling, "oldest_ready_seconds": 0})


def transitions_to_tell(
    told: dict[ConditionType, str], conditions: Iterable[Condition]
) -> list[Condition]:
    """The conditions that changed since they were told; notes in ``told`` what is told now.

    One piece of news that changes several of them is told once.
    """
    found: dict[tuple[str, str], Condition] = {}
    for condition in conditions:
        if condition.type not in _TOLD or condition.status == "Unknown":
            continue
        if condition.reason == Reason.STARTING:
            continue  # every worker starts; that is no news
        type_ = ConditionType(condition.type)
        before = told.get(type_)
        normal = "False" if type_ in _ABNORMAL else "True"
        told[type_] = condition.status
        if before != condition.status and not (before is None and condition.status == normal):
            found.setdefault((condition.reason, condition.message), condition)
    return [*found.values()]


@dataclass(frozen=True, slots=True)
class News:
    """What an Event tells."""

    action: str
    reason: str
    text: str
    warning: bool = False


def news_of(condition: Condition) -> News:
    """What to tell of a condition that has changed."""
    bad = condition.status == ("True" if condition.type in _ABNORMAL else "False")
    text = condition.message or f"{condition.type} is {condition.status}"
    return News(condition.type, condition.reason, text, bad)


def event(seen: QueueSeen, news: News, *, identity: str, now: datetime) -> Object:
    """Build an Event. Pure but for its name."""
    return {
        "apiVersion": kinds.EVENTS.api_version,
        "kind": kinds.EVENTS.name,
        "metadata": {"name": f"{seen.name}.{uuid.uuid4().hex[:16]}", "namespace": seen.namespace},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": identity[:128],
        "action": news.action,
        "reason": news.reason,
        "type": "Warning" if news.warning else "Normal",
        "note": news.text[:1000],
        "regarding": {
            "apiVersion": kinds.QUEUES.api_version,
            "kind": kinds.QUEUES.name,
            "namespace": seen.namespace,
            "name": seen.name,
            "uid": seen.uid,
        },
    }


@dataclass(slots=True)
class _Written:
    uid: str
    status: MessageQueueStatus | None
    at: float
    told: dict[ConditionType, str]


class Reporter:
    """Keeps the statuses of all queues up to date. Every method may be called from any thread."""

    def __init__(
        self, api: Api, *, identity: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._identity = identity
        self._now = monotonic
        self._lock = threading.Lock()
        self._written: dict[Key, _Written] = {}

    def report(self, seen: QueueSeen, status: MessageQueueStatus) -> None:
        """Write a status if it is worth it. Raises ApiError."""
        known = self._known(seen)
        if not must_write(known.status, status, since_s=self._now() - known.at):
            return
        body = {
            "apiVersion": kinds.QUEUES.api_version,
            "kind": kinds.QUEUES.name,
            "metadata": {"name": seen.name, "namespace": seen.namespace, "uid": seen.uid},
            "status": status.model_dump(by_alias=True, exclude_none=True, mode="json"),
        }
        self._write(seen, body)
        known.status, known.at = status, self._now()
        for condition in transitions_to_tell(known.told, status.conditions):
            self.tell(seen, news_of(condition))

    def _write(self, seen: QueueSeen, body: Object) -> None:
        where = (kinds.QUEUES, seen.namespace, seen.name, body)
        try:
            self._api.apply(*where, manager=names.MANAGER, sub="status")
        except ApiError as error:
            if _UNDECLARED not in str(error):
                raise
            # An older CustomResourceDefinition: a merge leaves out what that does not know.
            self._api.merge(*where, manager=names.MANAGER, sub="status")

    def tell(self, seen: QueueSeen, news: News) -> None:
        """Make an Event. It is for people: nothing else waits for it, or fails with it."""
        logger.info("%s/%s: %s: %s", seen.namespace, seen.name, news.reason, news.text)
        body = event(seen, news, identity=self._identity, now=datetime.now(tz=UTC))
        try:
            self._api.create(kinds.EVENTS, seen.namespace, body, manager=names.MANAGER)
        except ApiError as error:
            logger.info("%s/%s: an Event was refused: %s", seen.namespace, seen.name, error)

    def forget(self, key: Key) -> None:
        """Forget a queue that is gone."""
        with self._lock:
            self._written.pop(key, None)

    def stored(self, seen: QueueSeen) -> MessageQueueStatus | None:
        """The status that was written last, by us or by whoever led before us."""
        return self._known(seen).status

    def _known(self, seen: QueueSeen) -> _Written:
        with self._lock:
            known = self._written.get(seen.queue)
            if known is None or known.uid != seen.uid:
                status = parse_status(seen.status)
                told: dict[ConditionType, str] = {
                    ConditionType(it.type): it.status
                    for it in (status.conditions if status else ())
                    if it.type in _TOLD and it.reason != Reason.STARTING
                }
                known = _Written(seen.uid, status, float("-inf"), told)
                self._written[seen.queue] = known
            return known


def parse_status(raw: Object | None) -> MessageQueueStatus | None:
    """Read a stored status; None when there is none that we understand."""
    if not raw or raw.get("observedGeneration") == NEVER_OBSERVED:
        return None
    try:
        return MessageQueueStatus.model_validate(raw, by_alias=True, by_name=False)
    except ValueError:
        return None
