"""What is held and has not ended: each step of a message from its claim to its end, or back."""

from __future__ import annotations

from queue import Empty

import pytest

from celeriac.worker.inflight import InFlight
from tests.unit.worker.scripted import ManualMachine, Stopper, message

ONE, TWO, THREE = message(1), message(2), message(3)


@pytest.fixture
def machine() -> ManualMachine:
    return ManualMachine()


@pytest.fixture
def inflight(machine: ManualMachine) -> InFlight:
    return InFlight(machine)


def test_what_arrives_waits_in_order_and_counts(inflight: InFlight) -> None:
    inflight.arrive([ONE, TWO], 1000)
    assert (len(inflight), inflight.unstarted) == (2, [ONE.lease, TWO.lease])
    assert [inflight.waiting.get_nowait(), inflight.waiting.get_nowait()] == [ONE, TWO]
    assert len(inflight) == 2, "taken, and not begun yet"


def test_the_newest_entry_of_each_stream_is_remembered(inflight: InFlight) -> None:
    inflight.arrive(
        [message(1, lease="h7-1"), message(2, lease="n8-0"), message(3, lease="n9-5")], 0
    )
    assert inflight.newest == {"h": "7-1", "n": "9-5"}


def test_a_message_runs_from_its_beginning_to_its_end(inflight: InFlight) -> None:
    inflight.arrive([ONE, TWO], 1000)
    assert inflight.begin(ONE, 1005, ours=True)
    assert inflight.running == {ONE.lease: (ONE, 1005)}
    assert (inflight.unstarted, len(inflight)) == ([TWO.lease], 2)
    assert inflight.end(ONE.lease) == 1005
    assert (inflight.running, len(inflight)) == ({}, 1)
    assert inflight.end(ONE.lease) is None


def test_what_may_not_be_ours_goes_back_in_place_of_starting(inflight: InFlight) -> None:
    inflight.arrive([ONE], 1000)
    assert not inflight.begin(ONE, 1005, ours=False)
    assert (inflight.running, list(inflight.returning)) == ({}, [ONE.lease])
    assert (inflight.unstarted, len(inflight)) == ([], 1)


def test_leases_count_from_when_the_first_of_what_waits_was_asked_for(inflight: InFlight) -> None:
    inflight.arrive([ONE], 990)
    assert inflight.leases_seen == 990
    inflight.arrive([TWO], 999)
    assert inflight.leases_seen == 990, "the first one still waits"
    inflight.begin(ONE, 999, ours=True)
    inflight.begin(TWO, 999, ours=True)
    inflight.arrive([THREE], 999)
    assert inflight.leases_seen == 999


def test_what_arrives_while_others_are_renewed_does_not_count_as_renewed(
    inflight: InFlight,
) -> None:
    """A claim's answer that is read after a freeze, by one thread, while another renews."""
    inflight.arrive([ONE], 1000)
    asked_for = inflight.unstarted
    inflight.arrive([TWO], 900)
    inflight.seen(asked_for, 2000)
    assert inflight.leases_seen == 900
    inflight.seen(inflight.unstarted, 2001)
    assert inflight.leases_seen == 2001


def test_a_lease_that_is_lost_while_it_waits_keeps_its_message_from_starting(
    inflight: InFlight, caplog: pytest.LogCaptureFixture
) -> None:
    inflight.arrive([ONE, TWO], 1000)
    inflight.lose({ONE.lease, "n99-0"})
    assert not inflight.begin(ONE, 1000, ours=True)
    assert (inflight.running, inflight.returning, len(inflight)) == ({}, {}, 1)
    assert "id-1] lost its lease before it started" in caplog.text
    assert inflight.begin(TWO, 1000, ours=True)


def test_a_lease_that_comes_again_after_it_was_lost_is_a_new_one(inflight: InFlight) -> None:
    inflight.arrive([ONE], 1000)
    inflight.lose({ONE.lease})
    assert not inflight.begin(ONE, 1000, ours=True)
    inflight.arrive([ONE], 1001)
    assert inflight.begin(ONE, 1001, ours=True)


@pytest.mark.parametrize("can", [True, False])
def test_what_runs_under_a_lost_lease_is_stopped_where_the_pool_can_and_told_once(
    inflight: InFlight, can: bool, caplog: pytest.LogCaptureFixture
) -> None:
    inflight.stop_taken = stopper = Stopper(can=can)
    inflight.arrive([ONE, TWO], 1000)
    inflight.begin(ONE, 1000, ours=True)
    inflight.lose({ONE.lease})
    inflight.lose({ONE.lease, TWO.lease})
    assert stopper.stopped == [ONE]
    (line,) = caplog.messages
    assert ("it is stopped" in line) is can
    assert ("this pool cannot stop it" in line) is not can


def test_who_runs_again_under_the_same_lease_is_stopped_again(inflight: InFlight) -> None:
    inflight.stop_taken = stopper = Stopper()
    for _ in range(2):
        inflight.arrive([ONE], 1000)
        inflight.begin(ONE, 1000, ours=True)
        inflight.lose({ONE.lease})
        inflight.end(ONE.lease)
    assert stopper.stopped == [ONE, ONE]


def test_what_has_ended_meanwhile_is_not_stopped(inflight: InFlight) -> None:
    inflight.stop_taken = stopper = Stopper()
    inflight.lose({ONE.lease})
    assert stopper.stopped == []


def test_what_is_called_back_does_not_start(inflight: InFlight) -> None:
    inflight.arrive([ONE, TWO, THREE], 1000)
    inflight.begin(inflight.waiting.get_nowait() or ONE, 1000, ours=True)
    assert inflight.call_back() == [TWO.lease, THREE.lease]
    with pytest.raises(Empty):
        inflight.waiting.get_nowait()
    assert (inflight.unstarted, len(inflight)) == ([], 3)
    inflight.returned([TWO.lease])
    assert list(inflight.returning) == [THREE.lease]
    assert inflight.call_back() == [THREE.lease], "the broker did not hear of it"
    inflight.returned([THREE.lease, "n99-0"])
    assert len(inflight) == 1


def test_a_runner_that_is_to_end_is_not_forgotten_when_messages_are_called_back(
    inflight: InFlight,
) -> None:
    inflight.waiting.put(None)
    inflight.arrive([ONE], 1000)
    inflight.waiting.put(None)
    assert inflight.call_back() == [ONE.lease]
    assert [inflight.waiting.get_nowait(), inflight.waiting.get_nowait()] == [None, None]
    assert inflight.waiting.empty()
