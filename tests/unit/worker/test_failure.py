"""The description of a failed attempt: what groups together, and what is kept of it."""

from __future__ import annotations

import json

import pytest

from celeriac.worker.failure import describe, digest


def _raise(error: Exception) -> Exception:
    try:
        raise error
    except (ValueError, TypeError) as caught:
        return caught


def _raise_elsewhere(error: Exception) -> Exception:
    return _raise(error)


def _twice(error: Exception) -> Exception:
    try:
        if error.args:
            raise error
        raise error
    except (ValueError, TypeError) as caught:
        return caught


def test_the_same_path_has_the_same_digest_whatever_the_text() -> None:
    assert digest(_raise(ValueError("a"))) == digest(_raise(ValueError("b")))


def test_line_numbers_do_not_count() -> None:
    assert digest(_twice(ValueError("one line"))) == digest(_twice(ValueError()))


@pytest.mark.parametrize(
    "other", [_raise(TypeError("a")), _twice(ValueError("a")), ValueError("never raised")]
)
def test_another_class_or_another_path_has_another_digest(other: Exception) -> None:
    assert digest(other) != digest(_raise(ValueError("a")))


def test_who_called_the_function_that_caught_it_does_not_count() -> None:
    assert digest(_raise_elsewhere(ValueError())) == digest(_raise(ValueError()))


def test_a_digest_is_twelve_hex_digits() -> None:
    text = digest(ValueError("never raised"))
    assert len(text) == 12
    assert int(text, 16) >= 0


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ValueError("plain"), "plain"),
        (KeyError("k"), "'k'"),
        (ValueError(), ""),
        (_Unprintable(), "<error text unavailable>"),
        (ValueError("half \ud800 a pair"), "half \ud800 a pair"),
        (ValueError("x" * 10_000), "x" * 500),
    ],
)
def test_every_text_makes_a_line_of_history(error: Exception, kept: str) -> None:
    failure = describe(error, reason="failed", worker="w", started_ms=1, ended_ms=2)
    line = json.loads(failure.line(attempt=1, delivery=2))
    assert line.get("message", "") == kept
    assert (line["error"], line["reason"]) == (type(error).__name__, "failed")
    assert (line["attempt"], line["delivery"], line["worker"]) == (1, 2, "w")
