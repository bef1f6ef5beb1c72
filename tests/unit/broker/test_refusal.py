"""redis-py's errors as errors of ours: of the same class still, under one root, with the same text."""

from __future__ import annotations

import pickle

import pytest
import redis
from redis import exceptions

from celeriac import BrokerError, BrokerRefuses, BrokerUnreachable, CeleriacError
from celeriac.broker.refusal import BrokerFull, NewerLayout, errors_of_ours, explained, ours
from celeriac.broker.topology import NotReached

CONNECTION = [
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.MaxConnectionsError,
]
ANSWERS = [
    redis.ResponseError,
    redis.ReadOnlyError,
    exceptions.NoPermissionError,
    exceptions.OutOfMemoryError,
    exceptions.TryAgainError,
    redis.InvalidResponse,
    redis.DataError,
]


@pytest.mark.parametrize("kind", CONNECTION + ANSWERS)
def test_an_error_of_redis_py_stays_what_it_was(kind: type[redis.RedisError]) -> None:
    error = ours(kind("so it is"))

    assert isinstance(error, BrokerError)
    assert isinstance(error, CeleriacError)
    assert isinstance(error, kind)
    assert isinstance(error, BrokerUnreachable) is (kind in CONNECTION)
    assert str(error) == "so it is"
    assert type(error).__name__ in repr(error)
    assert ours(error) is error
    assert type(ours(kind("another"))) is type(error)


def test_redirections_keep_where_they_lead() -> None:
    error = ours(exceptions.MovedError("7 10.0.0.1:6379"))

    assert isinstance(error, exceptions.MovedError)
    assert error.node_addr == ("10.0.0.1", 6379)


@pytest.mark.parametrize("kind", [*CONNECTION, redis.ReadOnlyError])
def test_they_travel_between_processes(kind: type[redis.RedisError]) -> None:
    error = pickle.loads(pickle.dumps(ours(kind("far away"))))

    assert type(error) is type(ours(kind("")))
    assert (str(error), error.error_type) == ("far away", kind("").error_type)


def test_a_refusal_is_an_answer_and_says_so() -> None:
    full = explained(
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
    )
    disk = explained(redis.ResponseError("MISCONF Errors writing to the AOF file"))
    alone = explained(redis.ResponseError("NOREPLICAS Not enough good replicas to write."))
    newer = explained(redis.ResponseError("NEWERLAYOUT the queue has layout 2"))
    other = explained(redis.ResponseError("WRONGTYPE"))

    assert isinstance(full, BrokerFull)
    assert isinstance(full, exceptions.OutOfMemoryError)
    assert "below its maxmemory" in str(full)
    assert type(disk) is type(alone) is BrokerRefuses
    assert "cannot write to its disk" in str(disk)
    assert "min-replicas-to-write" in str(alone)
    assert (type(newer), str(newer)) == (NewerLayout, "the queue has layout 2")
    assert not isinstance(other, BrokerRefuses)


def test_what_is_ours_already_passes_as_it_is() -> None:
    error = NotReached("no route")
    with pytest.raises(NotReached) as caught, errors_of_ours():
        raise error
    assert caught.value is error

    with pytest.raises(BrokerUnreachable) as caught_theirs, errors_of_ours():
        raise redis.TimeoutError("late")
    assert type(caught_theirs.value.__cause__) is redis.TimeoutError
