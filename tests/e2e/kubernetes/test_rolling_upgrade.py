"""Another image for the workers while they are busy: every job runs, and runs once."""

from __future__ import annotations

from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes.harness import IMAGE, NEXT_TAG, Object, Platform
from tests.e2e.kubernetes.load import Load
from tests.e2e.kubernetes.waiting import eventually


def test_a_rolling_upgrade_under_load_loses_and_repeats_nothing(
    platform: Platform, own_cluster: Cluster, name: str
) -> None:
    upgraded = f"{IMAGE}:{NEXT_TAG}"
    scaling = {"minReplicas": 3, "maxReplicas": 3}
    platform.declare(name, autoscaling=scaling)
    platform.wait_pods(name, 3)
    # Jobs long enough for every worker to be in the middle of some when it is told to go.
    with Load(platform.client(), name, per_second=5, job_s=1.0) as load:
        eventually(lambda: len(load.accepted) >= 10, seconds=30, what="some load")
        before = {it["metadata"]["name"] for it in platform.pods(name)}
        platform.declare(name, autoscaling=scaling, worker={"image": upgraded})
        eventually(
            lambda: [_image(it) for it in platform.ready_pods(name)] == [upgraded] * 3,
            seconds=120,
            what="three new workers and no old one",
        )
        sent = len(load.accepted)
        eventually(lambda: len(load.accepted) >= sent + 10, seconds=30, what="some more load")
    platform.wait_done(name)
    platform.wait_ready(name)
    platform.ledger.check(name, load.accepted)
    ran_on = {it.pod for it in platform.ledger.notes(name)}
    assert before & ran_on, "the old workers did nothing"
    assert ran_on - before, "the new workers did nothing"
    stats = platform.queue(name).stats()
    assert (stats.done, stats.redelivered, stats.imbalance) == (len(load.accepted), 0, 0)


def _image(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])
