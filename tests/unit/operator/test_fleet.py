"""From Deployment, pods and broker to what the control loop decides on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from celeriac.backend.base import Fleet
from celeriac_operator.fleet import costs, fleet_of, held, lost, started
from celeriac_operator.seen import HOPELESS_FAILURES, deployment_seen, pod_seen

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Raw

#: When the containers of the pods below began.
BEGAN = int(datetime(2026, 1, 31, 10, 0, tzinfo=UTC).timestamp())


def fleet(raw: Raw, *pods: dict[str, Any], replicas: int = 2, **given: Any) -> Fleet:
    seen = [pod_seen(it, container="worker") for it in pods]
    deployment = deployment_seen(raw.deployment(replicas=replicas))
    return fleet_of(deployment, seen, heard=given.get("heard", {}), gone=given.get("gone", ()))


def test_without_a_deployment_there_is_nothing() -> None:
    assert fleet_of(None, [], heard={}, gone=()) == Fleet()


def test_pods_are_counted_by_what_they_do(raw: Raw) -> None:
    found = fleet(
        raw,
        raw.pod("a"),
        raw.pod("b", ready=False),
        raw.pod("c", ready=False, state={"waiting": {"reason": "ContainerCreating"}}),
        raw.pod("d", deleting=True),
        raw.pod("e", phase="Failed", ready=False),
        replicas=7,
    )
    assert (found.wanted, found.ready, found.starting, found.draining, found.waiting) == (
        7,
        1,
        2,
        1,
        0,
    )
    assert found.failures == 0


def test_pods_of_another_template_are_outdated(raw: Raw) -> None:
    found = fleet(
        raw, raw.pod("a"), raw.pod("b", template="t0"), raw.pod("c", template="t0", deleting=True)
    )
    assert found.outdated == 1


CRASH = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
    "last": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no module shop\n"}},
}


@pytest.mark.parametrize(
    ("pod", "failures", "text"),
    [
        ({**CRASH, "restarts": 5}, 5, "ended with 1: no module shop"),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
            HOPELESS_FAILURES,
            "ImagePullBackOff: not found",
        ),
        (
            {
                "state": {
                    "waiting": {"reason": "CreateContainerConfigError", "message": "no secret x"}
                }
            },
            HOPELESS_FAILURES,
            "CreateContainerConfigError: no secret x",
        ),
        (
            {"state": {"waiting": {"reason": "ErrImagePull", "message": "slow"}}},
            0,
            "ErrImagePull: slow",
        ),
        (
            {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "restarts": 2},
            2,
            "ended with 137 (SIGKILL), OOMKilled",
        ),
    ],
)
def test_a_worker_that_fails_waits_and_its_reason_is_told(
    raw: Raw, pod: dict[str, Any], failures: int, text: str
) -> None:
    found = fleet(raw, raw.pod(ready=False, **pod))
    assert (found.waiting, found.starting, found.failures) == (1, 0, failures)
    assert found.last_failure == text


def test_a_worker_that_runs_again_has_failed_before_and_does_not_fail(raw: Raw) -> None:
    found = fleet(raw, raw.pod(restarts=4, last={"terminated": {"exitCode": 137}}))
    assert (found.ready, found.waiting, found.failures) == (1, 0, 0)
    assert found.last_failure == "ended with 137 (SIGKILL)"


def test_a_pod_without_a_node_tells_why(raw: Raw) -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: insufficient cpu",
    }
    pending = raw.pod(ready=False, phase="Pending", state={}, conditions=(condition,))
    found = fleet(raw, pending)
    assert (found.starting, found.failures) == (1, 0)
    assert found.last_failure == "Unschedulable: 0/3 nodes are available: insufficient cpu"


def test_a_deployment_that_may_make_no_pods_is_a_failure(raw: Raw) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    seen = deployment_seen(raw.deployment(conditions=[condition]))
    found = fleet_of(seen, [], heard={}, gone=())
    assert (found.failures, found.last_failure) == (HOPELESS_FAILURES, "exceeded quota")
    assert found.cannot_start


@pytest.mark.parametrize(
    ("pod", "cannot_start"),
    [
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, True),
        ({**CRASH, "restarts": HOPELESS_FAILURES}, False),
        ({"state": {"waiting": {"reason": "ErrImagePull"}}}, False),
    ],
)
def test_what_died_and_what_cannot_start_are_told_apart(
    raw: Raw, pod: dict[str, Any], cannot_start: bool
) -> None:
    assert fleet(raw, raw.pod(ready=False, **pod)).cannot_start is cannot_start


@pytest.mark.parametrize(
    ("worker", "pod", "gone", "dead"),
    [
        (f"mail-1:{BEGAN}", {}, (), False),
        (f"mail-1:{BEGAN + 3}", {}, (), False),
        (f"mail-1:{BEGAN - 1}", {}, (), True),
        # The same second: nobody knows which came first, so the lease decides.
        (
            f"mail-1:{BEGAN}",
            {"state": {"terminated": {"finishedAt": "2026-01-31T10:00:00Z"}}},
            (),
            False,
        ),
        (
            f"mail-1:{BEGAN}",
            {"state": {"terminated": {"finishedAt": "2026-01-31T10:00:01Z"}}},
            (),
            True,
        ),
        (
            f"mail-1:{BEGAN}",
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "last": {"terminated": {"finishedAt": "2026-01-31T10:00:09Z"}},
            },
            (),
            True,
        ),
        (f"mail-2:{BEGAN}", {}, ("mail-2",), True),
        # Never seen here: another cluster's, or too new.
        (f"mail-2:{BEGAN}", {}, (), False),
        ("mail-1", {}, ("mail-1",), False),
        ("laptop:abc", {}, (), False),
        ("mail-1:12:x", {}, (), False),
    ],
)
def test_only_who_is_surely_dead_is_lost(
    raw: Raw, worker: str, pod: dict[str, Any], gone: tuple[str, ...], dead: bool
) -> None:
    pods = [pod_seen(raw.pod("mail-1", **pod), container="worker")]
    assert lost(pods, heard=[worker], gone=gone) == ((worker,) if dead else ())


def test_a_worker_is_named_by_its_pod_and_its_start() -> None:
    assert started("mail-1:17") == ("mail-1", 17)
    assert started("mail-1") == ("mail-1", None)
    assert held({"a:1": 2, "a:2": 3, "b:1": 0}) == {"a": 5, "b": 0}


def test_costs_are_written_where_they_are_not_so_yet(raw: Raw) -> None:
    pods = [
        pod_seen(it, container="worker")
        for it in (
            raw.pod("busy"),
            raw.pod("idle"),
            raw.pod("was-busy", cost="4"),
            raw.pod("still-busy", cost="2"),
            raw.pod("going", cost="9", deleting=True),
        )
    ]
    assert costs(pods, {"busy": 3, "still-busy": 2}) == {"busy": 3, "was-busy": 0}
