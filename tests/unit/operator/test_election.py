"""The Lease on an API server: taken, renewed, lost and given back; the fence says what may be written."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from celeriac_operator.fence import Fence
from celeriac_operator.lease import Election
from tests.unit.operator.conftest import Time
from tests.unit.operator.dictionary import Dictionary

DURATION_S = 10


class Replica:
    """One candidate; its thread is the test."""

    def __init__(self, server: Dictionary, clock: Time, name: str) -> None:
        self.name = name
        self.clock = clock
        self.fence = Fence(monotonic=clock)
        self.election = Election(
            server,
            self.fence,
            namespace="platform",
            name="operator",
            identity=name,
            duration_s=DURATION_S,
            monotonic=clock,
        )

    def step(self) -> float | None:
        """What its thread does once; the wait, if it is not the usual one."""
        return self.election._step(self.clock.now)

    @property
    def leads(self) -> bool:
        return self.election.leading.is_set() and not self.election.lost.is_set()


@pytest.fixture
def server() -> Dictionary:
    return Dictionary(Fence())  # whose own writes nobody fences: the Lease opens the fence


@pytest.fixture
def one(server: Dictionary, clock: Time) -> Replica:
    return Replica(server, clock, "one")


@pytest.fixture
def two(server: Dictionary, clock: Time) -> Replica:
    return Replica(server, clock, "two")


def lease(server: Dictionary) -> dict[str, Any]:
    found = server.find(kinds.LEASES, "operator", namespace="platform")
    assert found is not None
    spec: dict[str, Any] = found["spec"]
    return spec


def test_a_free_lease_is_taken_and_opens_the_fence_for_less_than_its_duration(
    server: Dictionary, one: Replica, clock: Time
) -> None:
    assert not one.fence.open
    one.step()
    assert one.leads and one.fence.open
    assert lease(server)["holderIdentity"] == "one"
    assert lease(server)["leaseDurationSeconds"] == DURATION_S
    clock.now += 0.7 * DURATION_S - 0.1
    assert one.fence.open
    clock.now += 0.2
    assert not one.fence.open, "before another one may take it"


def test_it_is_renewed_on_the_server_and_the_fence_stays_open(
    server: Dictionary, one: Replica, clock: Time
) -> None:
    one.step()
    for _ in range(20):
        clock.now += DURATION_S / 5
        server.written()
        one.step()
        assert server.written() == ["PUT leases operator"]
        assert one.fence.open
    assert one.leads


def test_a_second_one_waits_while_the_first_renews_and_takes_over_when_it_is_silent(
    server: Dictionary, one: Replica, two: Replica, clock: Time
) -> None:
    one.step()
    for _ in range(30):
        clock.now += 1
        one.step()
        wait = two.step()
        assert wait is not None and 0 < wait <= 1
    assert not two.leads
    server.written()
    clock.now += DURATION_S - 0.1
    two.step()
    assert not two.leads and server.written() == []
    clock.now += 0.1
    two.step()
    assert two.leads
    assert not one.fence.open, "two never write at once"
    assert lease(server)["leaseTransitions"] == 1


def test_who_finds_somebody_else_has_lost_it_for_good(
    server: Dictionary, one: Replica, two: Replica, clock: Time
) -> None:
    one.step()
    two.step()
    clock.now += 2 * DURATION_S
    two.step()
    one.step()  # it does not know yet: the server refuses its renewal
    one.step()
    assert one.election.lost.is_set()
    assert not one.fence.open
    one.fence.open_until(float("inf"))
    assert not one.fence.open, "a fence that is closed stays closed"
    assert lease(server)["holderIdentity"] == "two"


def test_of_two_that_take_it_at_once_one_leads(
    server: Dictionary, one: Replica, two: Replica, clock: Time
) -> None:
    def meanwhile(what: str) -> None:
        if what.startswith("POST"):
            server.before = lambda what: None
            two.step()

    server.before = meanwhile
    assert one.step() == pytest.approx(0.05)
    assert two.leads and not one.leads
    assert not one.fence.open


def test_a_server_that_does_not_answer_moves_no_fence(
    server: Dictionary, one: Replica, clock: Time
) -> None:
    one.step()
    answered = one.election.answered
    server.fail("leases", status=0)
    for _ in range(4):
        clock.now += 2
        with pytest.raises(ApiError):
            one.step()
    assert not one.fence.open
    assert one.election.answered == answered


def test_a_lease_that_could_not_be_renewed_in_time_is_given_up(
    server: Dictionary, clock: Time
) -> None:
    """The whole thread, on a clock that runs by itself: nobody may write after this."""
    replica = Replica(server, clock, "one")
    replica.election._now = Running(clock)
    replica.step()
    server.fail("leases", status=0)
    replica.election._duration_s = 1  # its waits, so that the test is short
    replica.election._run()
    assert replica.election.lost.is_set()
    assert not replica.fence.open


class Running:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self, clock: Time) -> None:
        self._clock = clock

    def __call__(self) -> float:
        self._clock.now += 1.0
        return self._clock.now


def test_it_is_given_back_so_that_another_one_takes_over_at_once(
    server: Dictionary, one: Replica, two: Replica, clock: Time
) -> None:
    one.step()
    two.step()
    one.election.release()
    assert not one.fence.open
    assert lease(server)["holderIdentity"] == ""
    two.step()
    assert two.leads


def test_what_is_not_ours_is_not_given_back(
    server: Dictionary, one: Replica, two: Replica, clock: Time
) -> None:
    one.step()
    two.step()
    server.written()
    two.election.release()
    assert server.written() == []
    assert lease(server)["holderIdentity"] == "one"
