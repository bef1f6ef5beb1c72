"""The Asyncio pool's smaller parts: stacks per context, coroutines called as functions, the loop."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import copy_context
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from redis import Redis

from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from celeriac.worker.awaiting import as_functions, await_for_celery, is_coroutine
from celeriac.worker.decoder import Decoder
from celeriac.worker.limits import limits_of
from celeriac.worker.pools import pool_class
from celeriac.worker.pools.asyncio import watch as watching
from celeriac.worker.pools.asyncio.loop import new_loop
from celeriac.worker.pools.asyncio.stacks import ContextStack
from celeriac.worker.pools.asyncio.watch import LoopWatch


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    # Tasks of other tests' apps are shared with every app that is finalized in this process.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    app = Celery("aio", set_as_current=False)

    @app.task(name="plain", shared=False, time_limit=5)
    def plain(number: int) -> int:
        return number

    @app.task(name="native", shared=False, soft_time_limit=3)
    async def native(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError(number)
        return number

    @app.task(name="auto", shared=False, autoretry_for=(ValueError,))
    async def auto(number: int) -> int:
        return number

    @app.task(name="modelled", shared=False, pydantic=True)
    async def modelled(number: int) -> int:
        return number

    class Classic(app.Task):  # type: ignore[misc,name-defined]
        name = "classic"

        async def run(self, number: int) -> int:
            return number

    app.register_task(Classic())
    app.finalize()
    return app


# --- stacks ---------------------------------------------------------------------------------------------


def test_a_stack() -> None:
    stack = ContextStack()
    assert (stack.top, stack.pop(), len(stack), stack.stack) == (None, None, 0, ())
    stack.push("a")
    stack.push("b")
    assert (stack.top, len(stack), stack.stack) == ("b", 2, ("a", "b"))
    assert [stack.pop(), stack.pop(), stack.pop()] == ["b", "a", None]


def test_contexts_have_stacks_of_their_own() -> None:
    stack = ContextStack()
    stack.push("below")
    one, other = copy_context(), copy_context()
    one.run(stack.push, "one")
    other.run(stack.pop)
    assert stack.stack == ("below",)
    assert one.run(lambda: stack.stack) == ("below", "one")
    assert other.run(lambda: stack.stack) == ()


# --- coroutine tasks ------------------------------------------------------------------------------------


def test_which_tasks_are_coroutines(app: Celery) -> None:
    coroutines = {name for name, task in app.tasks.items() if is_coroutine(task)}
    assert coroutines == {"native", "auto", "modelled", "classic"}
    await_for_celery(app)
    assert coroutines == {name for name, task in app.tasks.items() if is_coroutine(task)}


@pytest.mark.parametrize("name", ["native", "auto", "modelled", "classic"])
def test_a_coroutine_is_one_but_for_celery(app: Celery, name: str) -> None:
    await_for_celery(app)
    await_for_celery(app)
    task = app.tasks[name]
    assert asyncio.run(task(7)) == 7
    assert as_functions(task)(8) == 8
    assert asyncio.run(task(9)) == 9


def test_inside_a_coroutine_that_celery_calls_others_are_coroutines(app: Celery) -> None:
    @app.task(name="outer", shared=False)
    async def outer() -> Any:
        return await app.tasks["native"](4)

    await_for_celery(app)
    assert as_functions(outer)() == 4
    with pytest.raises(ValueError, match="-1"):
        as_functions(app.tasks["native"])(-1)


def test_limits(app: Celery) -> None:
    plain, native = app.tasks["plain"], app.tasks["native"]
    assert limits_of(plain, {}, soft_s=1, hard_s=2) == (1, 5)
    assert limits_of(native, {}, soft_s=1, hard_s=2) == (3, 2)
    assert limits_of(native, {"timelimit": [9, None]}, soft_s=1, hard_s=2) == (3, 9)
    assert limits_of(native, {"timelimit": [9, 8]}, soft_s=0, hard_s=0) == (8, 9)


@pytest.mark.parametrize(
    ("pool", "hard_s", "says"),
    [
        ("prefork", 1, ""),
        ("threads", 0, "the threads pool cannot interrupt a task: the time limits of task native,"),
        ("threads", 1, "limits of the queue and task native, plain"),
        ("asyncio", 0, "cannot interrupt a plain def task: the time limits of task plain are not"),
        ("asyncio", 1, "the time limits of the queue and task plain are not kept"),
    ],
)
def test_who_is_warned(
    app: Celery, caplog: pytest.LogCaptureFixture, pool: str, hard_s: float, says: str
) -> None:
    pool_class(pool).warn_of_limits(app, soft_s=0, hard_s=hard_s)
    assert says in caplog.text
    assert bool(caplog.text) == bool(says)


@pytest.mark.parametrize(
    "head", [b"", b'{"h":{"tenant":"t-1","timelimit":[3,2],"argsrepr":"(1,)"}}']
)
def test_a_request_is_as_celery_would_make_it(app: Celery, head: bytes) -> None:
    message = Message(
        lease="n1-1",
        id="id-1",
        task="plain",
        body=b"[[1],{},{}]",
        head=head,
        priority="normal",
        enqueued_ms=1,
        ready_ms=1,
        attempt=0,
        delivery=1,
        lost=0,
        expires_ms=0,
        history=b"",
    )
    call = Decoder(app, queue=Queue(Redis(), "q"), hostname="h").decode(message)
    call.request["celeriac"] = "ours, and no header"
    celerys = Context(call.request, args=call.args, kwargs=call.kwargs, called_directly=False)
    assert vars(call.context()) == vars(celerys)
    assert call.context().headers == ({"tenant": "t-1"} if head else None)


# --- the loop -------------------------------------------------------------------------------------------


def test_timers_are_on_time() -> None:
    async def measure() -> float:
        late = []
        for _ in range(40):
            begun = time.perf_counter()
            await asyncio.sleep(0.0022)
            late.append(time.perf_counter() - begun - 0.0022)
        return min(late)

    loop = new_loop()
    try:
        assert loop.run_until_complete(measure()) < 0.0006, "asyncio's own wait for 3 ms"
    finally:
        loop.close()


def test_a_loop_that_is_held_up_is_noticed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BLOCKED_S", 0.1)
    loop = asyncio.new_event_loop()
    watch = LoopWatch(loop)
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            watch.tick()

    async def hold_up() -> None:
        await asyncio.sleep(0.3)
        assert not caplog.messages
        time.sleep(0.6)  # noqa: ASYNC251
        await asyncio.sleep(0.1)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        loop.run_until_complete(loop.create_task(hold_up(), name="a.task[id]"))
    finally:
        over.set()
        thread.join()
        loop.close()
    told, on = caplog.messages
    assert told.startswith("a.task[id] holds up the event loop")
    assert "time.sleep(0.6)" in told
    assert on.startswith("the event loop goes on")
    watch.tick()  # a closed loop is no reason to complain
