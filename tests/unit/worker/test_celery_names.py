"""Nothing that Celery has is passed over in silence: every name stands in a table."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task, signals
from celery.app.defaults import NAMESPACES, flatten

from celeriac.worker.app_check import NotRunnable, must_be_runnable, without_effect
from celeriac.worker.celery_names import (
    ATTRIBUTES,
    OPTIONS,
    SETTINGS,
    SIGNALS,
    fate_of,
)

#: Attributes that are no settings: what Celery's task is made of.
INTERNALS = {
    "abstract", "app", "backend", "from_config", "name", "request", "request_stack",
}  # fmt: skip


def nothing() -> None:
    pass


def app_with(**conf: Any) -> Celery:
    app = Celery("test", set_as_current=False)
    app.conf.update(conf)
    return app


def test_every_setting_of_celery_has_a_fate() -> None:
    assert [name for name, _ in flatten(NAMESPACES) if fate_of(name) is None] == []


def test_every_signal_of_celery_has_a_fate() -> None:
    found = {it for it in dir(signals) if isinstance(getattr(signals, it), signals.Signal)}

    assert found == SIGNALS.keys()


def test_every_option_of_celery_has_a_fate() -> None:
    taken = {
        name
        for call in (Task.apply_async, Celery.send_task)
        for name, it in inspect.signature(call).parameters.items()
        if it.kind is not it.VAR_KEYWORD and name != "self"
    }

    assert taken <= OPTIONS.keys()


def test_every_attribute_of_a_task_has_a_fate() -> None:
    found = {
        name
        for name, it in inspect.getmembers_static(Task)
        if not (name.startswith("_") or inspect.isroutine(it) or inspect.isclass(it))
    }

    assert found - INTERNALS <= ATTRIBUTES.keys()


def test_what_is_not_kept_says_what_to_do_instead() -> None:
    for table in (SETTINGS, ATTRIBUTES, OPTIONS, SIGNALS):
        assert [
            name for name, fate in table.items() if fate.verdict != "kept" and not fate.text
        ] == []


def test_an_app_without_such_settings_hears_nothing() -> None:
    app = app_with(task_ignore_result=True, task_time_limit=9, result_backend="redis://")
    app.task(shared=False, name="t.x")(nothing)

    assert list(without_effect(app)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_concurrency", 7),
        ("worker_pool", "threads"),
        ("task_acks_on_failure_or_timeout", False),
        ("task_reject_on_worker_lost", True),
        ("worker_send_task_events", True),
        ("worker_autoscaler", "mine:Scaler"),
    ],
)
def test_a_setting_that_does_nothing_is_told(name: str, value: Any) -> None:
    (line,) = list(without_effect(app_with(**{name: value})))

    assert line.startswith(f"{name} = {value!r} has no effect: ")


def test_an_option_of_the_old_transport_is_told() -> None:
    options = {"visibility_timeout": 60, "queue_order_strategy": "sorted", "socket_timeout": 5}

    lines = list(without_effect(app_with(broker_transport_options=options)))

    assert [line.partition(" has")[0] for line in lines] == [
        "broker_transport_options['queue_order_strategy']",
        "broker_transport_options['visibility_timeout']",
    ]


def test_an_attribute_that_does_nothing_is_told_with_its_tasks() -> None:
    app = app_with()
    for n in range(7):
        app.task(shared=False, name=f"t.{n}", acks_on_timeout=False)(nothing)
    app.task(shared=False, name="t.free")(nothing)

    (line,) = list(without_effect(app))

    assert line.startswith("acks_on_timeout of t.0, t.1, t.2, t.3, t.4 and 2 more has no effect: ")


def test_an_attribute_of_annotations_is_told() -> None:
    app = app_with(task_annotations={"t.x": {"acks_on_timeout": False}})
    app.task(shared=False, name="t.x")(nothing)

    assert [line.partition(" has")[0] for line in without_effect(app)] == ["acks_on_timeout of t.x"]


@pytest.mark.parametrize(
    ("patcher", "asked"),
    [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")],
)
@pytest.mark.parametrize("patched", [True, False])
def test_an_app_that_is_patched_for_greenlets_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch, patcher: str, asked: str, patched: bool
) -> None:
    # Neither can be undone in a process that has more tests to run.
    module = SimpleNamespace(**{asked: lambda name: patched and name == "socket"})
    monkeypatch.setitem(sys.modules, patcher, module)

    with pytest.raises(NotRunnable, match="--pool asyncio") if patched else nullcontext():
        must_be_runnable(app_with())


@pytest.mark.parametrize("name", ["Strategy", "Request"])
def test_a_task_that_needs_celerys_own_consumer_ends_the_start(name: str) -> None:
    app = app_with()
    app.task(shared=False, name="t.plain")(nothing)
    must_be_runnable(app)
    app.task(shared=False, name="t.batch", **{name: "celery_batches:Own"})(nothing)

    with pytest.raises(NotRunnable, match=f"t.batch has a {name} of its own"):
        must_be_runnable(app)
