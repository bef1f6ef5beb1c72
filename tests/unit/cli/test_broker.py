"""Which broker a command talks to, and in which words its errors come to a person."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from celeriac.broker.refusal import ours
from celeriac.cli.broker import ENVIRONMENT, choose, connected
from celeriac.cli.errors import BadInput, Problem, Unreachable
from celeriac.cli.state import StateFolder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateFolder:
    """The folder that commands run in, in which nothing runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    state = StateFolder()
    state.create()
    return state


def test_the_option_comes_before_the_environment_and_that_before_the_folder(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match="no broker to talk to"):
        choose(None)
    folder.write("broker.json", {"url": "celeriac://folder"})
    assert choose(None).url == "celeriac://folder"
    monkeypatch.setenv(ENVIRONMENT, "celeriac://environment")
    assert choose(None).url == "celeriac://environment"
    assert choose("celeriac://option").url == "celeriac://option"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (redis.AuthenticationError("WRONGPASS"), Unreachable, "refused the login: WRONGPASS"),
        (redis.exceptions.NoPermissionError("NOPERM"), Unreachable, "forbids this user a command"),
        (redis.exceptions.MovedError("1 h:1"), BadInput, r"celeriac\+cluster://"),
        (redis.ResponseError("ERR broken"), Problem, "refused: ERR broken"),
        (redis.ConnectionError("gone"), Unreachable, "does not answer: gone"),
        (redis.TimeoutError("late"), Unreachable, "does not answer: late"),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Exception) else None,
)
@pytest.mark.parametrize("through_a_queue", [True, False])
def test_what_goes_wrong_with_the_broker_is_said_in_one_line(
    error: redis.RedisError, kind: type[Problem], says: str, through_a_queue: bool
) -> None:
    with pytest.raises(Problem, match=says) as caught, connected("celeriac://:s3cret@host"):
        raise ours(error) if through_a_queue else error

    assert type(caught.value) is kind
    assert "s3cret" not in caught.value.message + caught.value.hint
