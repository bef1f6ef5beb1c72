"""The decoder of messages, fed what attackers would write; `python -m tests.fuzz` does it for longer."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import target
from tests.fuzz.__main__ import MISSING
from tests.fuzz.inputs import FOUND, SEEDS, made
from tests.programs import lacking

ROOT = Path(__file__).parents[2]
SECONDS = 5

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_headers = st.dictionaries(
    st.sampled_from(
        [
            *(
                "timelimit",
                "retries",
                "max_attempts",
                "compression",
                "id",
                "task",
                "get",
                "root_id",
            ),
            *("ignore_result", "stamps", "update", "children", "hostname", "delivery_info", "x"),
        ]
    ),
    _json,
    max_size=4,
)
_heads = st.fixed_dictionaries(
    {}, optional={"h": _headers | _json, "p": _json, "ct": _json, "ce": _json}
)
_bodies = st.lists(_json, min_size=2, max_size=4) | _json


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_refused_or_harmless(name: str) -> None:
    target.decode(FOUND[name])


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_where_fuzzing_begins(number: int) -> None:
    target.decode(SEEDS[number])


@settings(max_examples=300, deadline=None)
@given(head=_heads, body=_bodies, history=_json)
@example(head={}, body=[[], {}, {}], history={})
def test_any_json_is_opened_or_refused_with_a_reason(head: Any, body: Any, history: Any) -> None:
    target.decode(made(head, json.dumps(body).encode(), json.dumps(history).encode()))


def _bitten(seed: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, max(0, len(seed) - 1))
    return st.builds(
        lambda at, put: seed[:at] + put + seed[at + 1 :], places, st.binary(max_size=4)
    )


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300) | st.sampled_from(SEEDS).flatmap(_bitten))
def test_any_bytes_are_opened_or_refused_with_a_reason(data: bytes) -> None:
    target.decode(data)


def test_a_short_run_of_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        lacking(MISSING)
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(SECONDS)]
    ran = subprocess.run(
        [*command, "--artifacts", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    executed = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
    assert executed is not None
    assert int(executed[1]) > 100
