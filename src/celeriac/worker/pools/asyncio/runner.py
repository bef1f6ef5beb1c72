"""Runs attempts of ``async def`` tasks on an event loop.

Celery's tracer cannot wait for a coroutine, so an attempt has three parts. What comes before the task's own
code (prerun, before_start) is done here; then the coroutine runs; and all that follows from its end (policy,
result, callbacks, hooks, signals) is Celery's tracer again, see `tracer.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from celery import signals, states
from celery.app import trace
from celery.app.task import get_actual_ignore_result
from celery.app.trace import task_has_custom
from celery.backends.base import Backend, DisabledBackend
from celery.loaders.base import BaseLoader
from celery.worker import state as worker_state
from pydantic import BaseModel

from celeriac.broker.message import Discard, Lease, Message, Postpone, RetryAt, Settlement
from celeriac.client import progress
from celeriac.worker import notify
from celeriac.worker.attempt import Attempt
from celeriac.worker.awaiting import is_coroutine
from celeriac.worker.decoder import Undeliverable
from celeriac.worker.limits import limits_of
from celeriac.worker.pools.asyncio import stacks, tracer
from celeriac.worker.pools.asyncio.drive import Drive, Ended
from celeriac.worker.runner import AttemptRunner

_HOOKS = ("before_start", "on_success", "after_return")


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of an ``async def`` task before it runs."""

    prepares: bool
    """Whether it has a before_start of its own."""
    reacts: bool
    """Whether it has hooks of its own for its end."""
    stores: bool
    """Whether there is a result backend."""
    cleans_up: bool
    """Whether something is tidied up after each task."""
    tracks: bool
    """Whether its result backend is to be told that it starts."""
    deduplicates: bool
    """Whether the result backend knows which messages need not run again."""


@dataclass(slots=True, eq=False)
class Live:
    """An attempt whose coroutine runs, or is about to."""

    attempt: Attempt
    traits: Traits
    request: Any
    context: Context
    soft_s: float
    hard_s: float
    drive: Drive | None = None
    revoked: bool = False
    taken: bool = False
    """Its lease is somebody else's: no outcome of this attempt counts."""

    @property
    def message(self) -> Message:
        """The message that this is an attempt at."""
        return self.attempt.message


class CoroutineRunner(AttemptRunner):
    """Runs coroutines in three parts, and other tasks whole, in whatever thread calls.

    ``begin`` and ``end`` call user code (hooks, receivers of signals) and may talk to the result backend: not
    on the loop, unless they are quick. All parts share the attempt's context, whatever threads they run in.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        soft_s: float = 0,
        hard_s: float = 0,
        **options: Any,
    ) -> None:
        """Limits are the queue's, in seconds; 0 means none. The rest is for AttemptRunner."""
        super().__init__(finish=self._finish, **options)
        self.loop = loop
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._traits: dict[str, Traits | None] = {}
        #: What :meth:`live` found has to wait for its time. Written by the loop, taken out by who runs it.
        self._later: dict[Lease, Postpone] = {}
        stacks.keep_tasks_per_context()
        for task in self.app.tasks.values():
            self._adopt(task)

    def live(self, message: Message) -> Live | None:
        """Open a message whose task is a coroutine; None when it is not, or is not to run at all."""
        name = message.task
        if name in self._traits:
            traits = self._traits[name]
        elif name in self.app.tasks:
            traits = self._adopt(self.app.tasks[name])
        else:
            return None
        if traits is None or message.id in worker_state.revoked:
            return None
        if name in self._limited and (later := self._rates.wait(message, worker=self.worker)):
            self._later[message.lease] = later
            return None
        try:
            call = self._decoder.decode(message)
        except Undeliverable:
            return None
        soft_s, hard_s = limits_of(
            call.task, call.request, soft_s=self._soft_s, hard_s=self._hard_s
        )
        attempt = self._attempt(message, call)
        return Live(attempt, traits, call.context(), copy_context(), soft_s, hard_s)

    def run(self, message: Message) -> Settlement:
        """Run one message whole, in this thread."""
        later = self._later.pop(message.lease, None)
        return super().run(message) if later is None else Settlement(message, later)

    def begins_quickly(self, live: Live) -> bool:
        """Whether :meth:`begin` calls nobody."""
        traits = live.traits
        return not (
            traits.prepares or traits.tracks or traits.deduplicates or signals.task_prerun.receivers
        )

    def begin(self, live: Live) -> Ended | None:
        """Do what comes before the task's own code; an answer means that it must not run."""
        try:
            return live.context.run(self._begin, live)
        except BaseException as error:
            return Ended(error=error)

    def _begin(self, live: Live) -> Ended | None:
        traits, task, request = live.traits, live.attempt.call.task, live.request
        progress.current.set(self._progress_sink(live.message))
        stacks.tasks.push(task)
        task.request_stack.push(request)
        if traits.deduplicates and self._has_succeeded(request):
            return Ended()  # which Celery's tracer finds out as well
        if signals.task_prerun.receivers:
            signals.task_prerun.send(
                sender=task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs
            )
        self.app.loader.on_task_init(request.id, task)
        if traits.tracks and not get_actual_ignore_result(task, request):
            here = {"pid": os.getpid(), "hostname": self.worker}
            task.backend.store_result(request.id, here, states.STARTED, request=request)
        if traits.prepares:
            task.before_start(request.id, request.args, request.kwargs)
        return None

    def _has_succeeded(self, request: Any) -> bool:
        if not request.delivery_info["redelivered"]:
            return False
        return bool(self.app.AsyncResult(request.id).state == states.SUCCESS)

    def call(self, live: Live) -> Any:
        """Call the task: the coroutine that it answers with is its own code."""
        call = live.attempt.call
        return call.task(*call.args, **call.kwargs)

    def end_quickly(self, live: Live, ended: Ended) -> Settlement | None:
        """Do as :meth:`end` does if that calls nobody; None when it does."""
        attempt, request = live.attempt, live.request
        if (
            ended.error is not None
            or live.revoked
            or live.taken
            or live.traits.reacts
            or (live.traits.stores and not get_actual_ignore_result(attempt.call.task, request))
            or request.callbacks
            or request.chain
            or request.chord
            or signals.task_success.receivers
            or signals.task_postrun.receivers
        ):
            return None
        if live.traits.cleans_up or trace.logger.isEnabledFor(logging.INFO):
            return self.end(live, ended)
        # Celery's tracer would only find out that there is nothing to do.
        return attempt.settlement(attempt.outcome_of_return())

    def end(self, live: Live, ended: Ended) -> Settlement:
        """Do what follows from the end of the task's own code."""
        # A coroutine that was left behind may still enter its own context.
        context = live.context.copy() if ended.forced else live.context
        return context.run(self._end, live, ended)

    def _end(self, live: Live, ended: Ended) -> Settlement:
        attempt, request = live.attempt, live.request
        task = attempt.call.task
        task.request_stack.pop()
        stacks.tasks.pop()
        if live.revoked or live.taken:
            return self._stopped(live)
        if ended.forced:
            attempt.reason = "hard_time_limit"
        elif task._dump_pydantic_arguments is not None and isinstance(ended.value, BaseModel):
            ended.value = ended.value.model_dump(mode="json")
        tracer.prepare(ended, began=attempt.started)
        attempt.call.request = vars(request)
        return attempt.settlement(self._trace(attempt, attempt.call))

    def _stopped(self, live: Live) -> Settlement:
        attempt, request = live.attempt, live.request
        task = attempt.call.task
        if live.revoked:
            with notify.harmless(live.message):
                notify.revoked(task, request, reason="terminated", terminated=True)
        # Celery kills the process here. In ours, what prerun began has to find its end.
        signals.task_postrun.send(
            sender=task,
            task_id=request.id,
            task=task,
            args=request.args,
            kwargs=request.kwargs,
            retval=None,
            state=states.REVOKED if live.revoked else states.IGNORED,
        )
        return attempt.settlement(Discard("revoked") if live.revoked else RetryAt(delay_ms=0))

    def _finish(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Let the loop run a coroutine to its end, for another thread."""
        if threading.current_thread() is threading.main_thread():
            coroutine.close()
            raise RuntimeError("a coroutine task was called as a function, on the event loop")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    # --- tasks ----------------------------------------------------------------------------------

    def _adopt(self, task: Any) -> Traits | None:
        stacks.keep_requests_per_context(task)
        traits = self._traits_of(task) if is_coroutine(task) else None
        self._traits[task.name] = traits
        if traits is not None:
            self._prepare(task)
        return traits

    def _traits_of(self, task: Any) -> Traits:
        conf, backend = self.app.conf, task.backend
        own = {it for it in _HOOKS if task_has_custom(task, it)}
        stores = not isinstance(backend, DisabledBackend)
        return Traits(
            prepares="before_start" in own,
            reacts=bool(own - {"before_start"}),
            stores=stores,
            cleans_up=(
                type(self.app.loader).on_process_cleanup is not BaseLoader.on_process_cleanup
                or type(backend).process_cleanup is not Backend.process_cleanup
            ),
            tracks=bool(task.track_started) and stores,
            deduplicates=bool(
                (conf.task_acks_late or task.acks_late)
                and conf.worker_deduplicate_successful_tasks
                and self.app.backend.persistent
            ),
        )

    def _build(self, task: Any) -> Any:
        if self._traits.get(task.name) is None:
            return super()._build(task)
        return tracer.build(task, app=self.app, worker=self.worker)
