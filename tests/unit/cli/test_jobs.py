from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from celeriac.cli.jobs import Draft, read_line, read_lines


def test_reads_every_key() -> None:
    line = {
        "task": "app.greet",
        "args": ["Ada", 1],
        "kwargs": {"polite": True},
        "id": "a-1",
        "priority": "high",
        "delay": "5s",
        "expires": 60,
        "dedupKey": "ada",
    }
    assert read_line(json.dumps(line), Draft()) == Draft(
        task="app.greet",
        args=("Ada", 1),
        kwargs={"polite": True},
        id="a-1",
        priority="high",
        delay=timedelta(seconds=5),
        expires=timedelta(seconds=60),
        dedup_key="ada",
    )


def test_what_a_line_leaves_out_comes_from_the_command_line() -> None:
    defaults = Draft(task="app.greet", priority="low", kwargs={"a": 1})
    assert read_line('{"args": [1]}', defaults) == Draft(
        task="app.greet", priority="low", kwargs={"a": 1}, args=(1,)
    )
    assert read_line('{"task": "app.other", "priority": null}', defaults).task == "app.other"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ('{"task": "t", "args": [NaN]}', "NaN is not JSON"),
        ("[1]", "not a job"),
        ('"text"', "not a job"),
        ({}, "no task"),
        ({"task": ""}, "'task' must be a string"),
        ({"task": "t", "arg": []}, "unknown key 'arg'.*args"),
        ({"task": "t", "args": {}}, "'args' must be a list"),
        ({"task": "t", "kwargs": []}, "'kwargs' must be an object"),
        ({"task": "t", "priority": "urgent"}, "'priority' must be one of high, normal, low"),
        ({"task": "t", "delay": "soon"}, "'delay': .*5s"),
        ({"task": "t", "delay": True}, "'delay'"),
        ({"task": "t", "id": 7}, "'id' must be a string"),
    ],
)
def test_a_wrong_line_says_what_would_be_right(line: Any, problem: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    with pytest.raises(ValueError, match=problem):
        read_line(text, Draft())


def test_lines_keep_their_numbers_and_problems_do_not_stop_the_rest() -> None:
    lines = ['{"task": "a"}\n', "\n", "oops\n", '{"task": "b"}\n']
    read = list(read_lines(lines, Draft()))
    assert [(line.number, line.draft and line.draft.task) for line in read] == [
        (1, "a"),
        (3, None),
        (4, "b"),
    ]
    assert "not JSON" in read[1].problem
    assert [line.number for line in read_lines(lines, Draft(), start=4)] == [4]
