"""The Asyncio pool, as the worker sees it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celeriac.broker.message import Message
from celeriac.client.progress import QueueProgress
from celeriac.worker.awaiting import is_coroutine
from celeriac.worker.pools.asyncio.loop import new_loop
from celeriac.worker.pools.asyncio.runner import CoroutineRunner
from celeriac.worker.pools.asyncio.scheduler import Scheduler
from celeriac.worker.pools.asyncio.watch import LoopWatch
from celeriac.worker.pools.base import InProcess


class Asyncio(InProcess):
    """Runs up to ``concurrency`` coroutines at once, and plain functions in threads beside them."""

    celerys = "threads"  # Celery has no pool of this kind
    uninterrupted = "a plain def task"
    remedy = "use Prefork, or async def, to keep them"

    _scheduler: Scheduler
    _watch: LoopWatch

    @classmethod
    def interrupts(cls, task: Any) -> bool:
        return is_coroutine(task)

    def prepare(self) -> None:
        soft_s, hard_s = self.context.limits()
        queue, later = self.consumer.queue, ThreadPoolExecutor(1, "celeriac-progress").submit
        runner = self.context.runner(
            CoroutineRunner,
            self.consumer,
            loop=new_loop(),
            soft_s=soft_s,
            hard_s=hard_s,
            progress_sink=lambda message: QueueProgress(queue, message.id, run=later),
        )
        concurrency = self.context.options.concurrency
        self._watch = LoopWatch(runner.loop)
        self._scheduler = Scheduler(self.consumer, runner, concurrency=concurrency)

    def serve(self) -> None:
        self._scheduler.run()

    def tick(self) -> None:
        self._watch.tick()

    @property
    def beat(self) -> float:
        return min(super().beat, self._watch.beat)

    def terminate(self, message_id: str) -> bool:
        return self._scheduler.terminate(message_id)

    def stop_taken(self, message: Message) -> bool:
        return self._scheduler.stop_taken(message)
