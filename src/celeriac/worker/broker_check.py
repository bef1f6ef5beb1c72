"""Looks once, as soon as the broker answers, whether it is one that a worker may run on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import redis

from celeriac.broker.eviction import HOW_TO_STOP_IT, EvictingServer, refuse_eviction
from celeriac.worker.closing import Closing

logger = logging.getLogger(__name__)

_AGAIN_S = 1.0


class BrokerCheck:
    """The check of one worker; ``refused`` when it turned out later that the broker is unfit."""

    def __init__(self, client: redis.Redis, *, closing: Closing, stop: Callable[[], None]) -> None:
        self.refused = False
        self._passed = False
        self._client = client
        self._closing = closing
        self._stop = stop

    def now(self) -> None:
        """Check, if the broker answers. Raises EvictingServer."""
        try:
            refuse_eviction(self._client)
        except EvictingServer:
            raise
        except redis.RedisError:
            return
        self._passed = True

    def later(self) -> None:
        """If it did not answer, check in a thread, as soon as it does."""
        if not self._passed:
            threading.Thread(target=self._ask, name="celeriac-check", daemon=True).start()

    def _ask(self) -> None:
        while not self._passed and not self._closing.wait(_AGAIN_S):
            try:
                self.now()
            except EvictingServer as error:
                logger.critical("%s. %s The worker stops.", error, HOW_TO_STOP_IT)
                self.refused = True
                self._stop()
                return
