"""What is done in Celery's place gives Celery's answers."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from celery.app import task as task_module
from celery.app import trace
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from celeriac.worker import speedups


def untouched() -> Any:
    """Celery's Context as it is without us, but for the one field that is ours."""
    spec = importlib.util.spec_from_file_location("celery.app.untouched", str(task_module.__file__))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Context.celeriac = None
    return module.Context


CELERYS = untouched()
NAMES = st.sampled_from(
    [*(name for name in vars(CELERYS) if not name.startswith("_")), "lang", "task", "compression"]
) | st.text("abc", min_size=1, max_size=3)


@given(st.dictionaries(NAMES, st.none() | st.integers()), st.dictionaries(NAMES, st.integers()))
def test_a_context_has_the_same_headers(request: dict[str, Any], more: dict[str, Any]) -> None:
    assert task_module.Context(request, **more).headers == CELERYS(request, **more).headers


def test_it_is_in_place_and_the_original_was_another() -> None:
    assert task_module.Context._get_custom_headers is speedups.custom_headers
    assert CELERYS._get_custom_headers is not speedups.custom_headers
    assert trace.saferepr is speedups.short_repr


@pytest.mark.parametrize("value", [None, 0, "None", ["x" * 2000], object])
def test_values_read_the_same(value: object) -> None:
    assert trace.saferepr(value, 1024) == saferepr(value, 1024)
    assert trace.saferepr(value) == saferepr(value)
