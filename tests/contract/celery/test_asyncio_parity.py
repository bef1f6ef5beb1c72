"""The contract of the other pools, held by the Asyncio pool: once with coroutines, once with functions.

Every test of these modules that runs on a shared worker runs here again, whichever pools it names itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
import test_calling
import test_canvas
import test_control
import test_fatal
import test_hooks
import test_limits
import test_logs
import test_policy
import test_retry
import test_undeliverable
from contract_worker import Watched

#: What only a process of its own can survive.
PREFORK_ONLY = {
    "test_a_task_that_exits_its_process_is_stopped_by_the_delivery_limit",
    "test_a_killed_child_costs_a_delivery_and_no_attempt",
    "test_arguments_are_not_logged_nor_kept_in_the_history",  # one of them exits, see test_asyncio
}
#: What threads cannot do: a function that runs cannot be stopped.
COROUTINES_ONLY = {
    "test_terminate_stops_a_running_message_for_good",
    "test_a_group_hears_of_a_terminated_member",
}
#: What only one slot can keep.
SOLO_ONLY = {"test_priority_zero_comes_first"}
APPS = {"coroutines": "contract_coroutines:app", "functions": "contract_app:app"}


@pytest.fixture(scope="module")
def _asyncio(new_queue: Callable[..., Watched]) -> Iterator[Callable[[str], Watched]]:
    workers: dict[str, Watched] = {}

    def get(kind: str) -> Watched:
        if kind not in workers:
            workers[kind] = new_queue().start("asyncio", "-A", APPS[kind]).wait_ready()
        return workers[kind]

    yield get
    for watched in workers.values():
        watched.end()


@pytest.fixture
def worker(request: pytest.FixtureRequest, _asyncio: Callable[[str], Watched]) -> Watched:
    watched = _asyncio(request.param)
    assert not watched.ended, watched.log
    return watched


def _again(module: ModuleType, *kinds: str) -> None:
    for name, function in vars(module).items():
        if not name.startswith("test_") or not isinstance(function, FunctionType):
            continue
        arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        if "worker" not in arguments or name in PREFORK_ONLY | SOLO_ONLY:
            continue
        copy = FunctionType(function.__code__, function.__globals__, name)
        copy.__annotations__ = function.__annotations__
        marks: list[Any] = getattr(function, "pytestmark", [])
        marks = [mark for mark in marks if mark.args[:1] != ("worker",)]
        own = ("coroutines",) if name in COROUTINES_ONLY else kinds
        again: Any = pytest.mark.parametrize("worker", own, indirect=True)(copy)
        again.pytestmark = [*again.pytestmark, *marks]
        globals()[f"{name}_{module.__name__.removeprefix('test_')}"] = again


for _module in (test_calling, test_canvas, test_hooks, test_policy, test_retry, test_control):
    _again(_module, *APPS)
for _module in (test_fatal, test_limits, test_undeliverable, test_logs):
    _again(_module, "coroutines")
