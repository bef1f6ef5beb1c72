"""Who leads: a coordination.k8s.io Lease that one replica holds and renews, and the others watch.

Time is never compared between machines: a candidate takes over when it has itself seen the Lease
unchanged for its whole duration. The holder's fence closes earlier, so that two never write at once.

The official client has an election too. It is not used: its requests have no time limit, one refused
connection ends it, it cannot give the Lease back, and it measures with the wall clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError
from celeriac_operator.fence import Fence
from celeriac_operator.resources import Object

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """A Lease as it was last seen to change, and when (monotonic seconds)."""

    version: str
    since: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else may hold it: look again in so many seconds."""

    seconds: float


class Take:
    """It is free, or ours: write it."""


def choose(
    lease: Object | None, watched: Watched, *, me: str, now: float, duration_s: float
) -> Take | Wait:
    """Decide on a Lease that was just read. Pure."""
    spec = (lease or {}).get("spec") or {}
    holder = spec.get("holderIdentity")
    if lease is None or not holder or holder == me:
        return Take()
    # The holder's own promise counts, which may be longer than ours.
    left = watched.since + max(duration_s, float(spec.get("leaseDurationSeconds") or 0)) - now
    return Take() if left <= 0 else Wait(min(duration_s / 10, left))


def written(lease: Object | None, *, me: str, duration_s: int, now: datetime) -> Object:
    """The Lease with us as its holder. Pure."""
    old = (lease or {}).get("spec") or {}
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    ours = old.get("holderIdentity") == me
    changes = old.get("leaseTransitions") or 0
    return {
        "holderIdentity": me,
        "leaseDurationSeconds": duration_s,
        "acquireTime": old.get("acquireTime", moment) if ours else moment,
        "renewTime": moment,
        "leaseTransitions": changes if ours or lease is None else changes + 1,
    }


class Election:
    """Takes the Lease, keeps it, and gives it back. ``lead`` and then ``lost`` are called once each."""

    def __init__(
        self,
        api: Api,
        fence: Fence,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_s: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._fence = fence
        self._where = (namespace, name)
        self._me = identity
        self._duration_s = duration_s
        self._now = monotonic
        self._watched = Watched("?", monotonic())
        self._lease: Object | None = None
        self._renewed = float("-inf")
        self._stop = threading.Event()
        self.leading = threading.Event()
        self.lost = threading.Event()
        self.beat = monotonic()
        """When the API server last answered, or at least the thread was seen at work."""
        self.answered = float("-inf")

    def start(self) -> None:
        """Run for the Lease, in a thread."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def release(self) -> None:
        """Give the Lease back, if it is held, so that another replica takes over at once."""
        self._stop.set()
        self._fence.close()
        if not self.leading.is_set() or self.lost.is_set() or self._lease is None:
            return
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            self._write({**self._lease, "spec": spec}, timeout=2.0)
            logger.info("gave the Lease back")
        except ApiError as error:
            logger.warning("the Lease could not be given back: %s", error)

    # --- the thread -----------------------------------------------------------------------------

    @property
    def _limit_s(self) -> float:
        """A Lease that was not renewed for this long counts as lost: others may take it soon after."""
        return self._duration_s * 0.7

    def _run(self) -> None:
        while not self._stop.is_set():
            self.beat = began = self._now()
            wait = self._duration_s / (5 if self.leading.is_set() else 10)
            try:
                wait = self._step(began) or wait
            except ApiError as error:
                logger.warning("the Lease cannot be read or written: %s", error)
            except Exception:
                logger.exception("the election failed")
            if self.leading.is_set() and self._now() > self._renewed + self._limit_s:
                self._lose("it could not be renewed in time")
                return
            if self.lost.is_set():
                return
            self._stop.wait(wait)

    def _step(self, began: float) -> float | None:
        """One look, and perhaps one write; return how long to wait if not as usual."""
        if not self.leading.is_set():
            self._read()
        choice = choose(
            self._lease, self._watched, me=self._me, now=self._now(), duration_s=self._duration_s
        )
        if isinstance(choice, Wait):
            if self.leading.is_set():
                self._lose("somebody else holds it")
            return choice.seconds
        try:
            self._take()
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise
            self._read()  # somebody was faster, or has touched it: the next look decides
            return 0.05
        self._renewed = began
        self._fence.open_until(began + self._limit_s)
        if not self.leading.is_set():
            logger.info("took the Lease: this replica leads")
            self.leading.set()
        return None

    def _read(self) -> None:
        kind = kinds.LEASES
        try:
            lease = self._api.request("GET", kind.path(*self._where), timeout=self._timeout_s)
        except ApiError as error:
            if not error.not_found:
                raise
            lease = None
        self.answered = self._now()
        version = lease["metadata"]["resourceVersion"] if lease else ""
        if self._watched.version != version:
            self._watched = Watched(version, self._now())
        self._lease = lease

    def _take(self) -> None:
        namespace, name = self._where
        spec = written(
            self._lease, me=self._me, duration_s=self._duration_s, now=datetime.now(tz=UTC)
        )
        kind = kinds.LEASES
        if self._lease is None:
            body = {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            }
            path = kind.path(namespace)
            self._lease = self._api.request("POST", path, body, timeout=self._timeout_s)
        else:
            self._lease = self._write({**self._lease, "spec": spec}, timeout=self._timeout_s)
        self.answered = self._now()

    def _write(self, lease: Object, *, timeout: float) -> Object:
        # With the resource version that was read: whoever is second is refused.
        path = kinds.LEASES.path(*self._where)
        return self._api.request("PUT", path, lease, timeout=timeout)

    @property
    def _timeout_s(self) -> float:
        return self._duration_s / 5

    def _lose(self, why: str) -> None:
        self._fence.close()
        logger.error("lost the Lease: %s", why)
        self.lost.set()
