"""A schema and an operator of two versions: every upgrade passes through that, and a rollback stays there."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac_operator import kinds
from tests.api.conftest import Broker, StartOperator
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import Kube
from tests.api.operator_process import OperatorProcess, until
from tests.cluster.cluster import Cluster

NAME = "messagequeues.celeriac.dev"
Edit = Callable[[dict[str, Any], dict[str, Any]], None]
Change = Callable[[Edit], None]


@pytest.fixture
def change_crd(api: Cluster) -> Iterator[Change]:
    """Changes the schemas of MessageQueue's spec and status for the length of the test."""
    found = json.loads(api.kubectl("get", "crd", NAME, "-o", "json"))
    bare = {key: it for key, it in found.items() if key != "status"}
    bare["metadata"] = {"name": NAME}

    def replace(body: dict[str, Any]) -> None:
        api.kubectl("replace", "-f", "-", stdin=json.dumps(body))

    def change(edit: Edit) -> None:
        body = copy.deepcopy(bare)
        schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        edit(schema["spec"]["properties"], schema["status"]["properties"])
        replace(body)

    yield change
    replace(bare)


def newer(spec: dict[str, Any], status: dict[str, Any]) -> None:
    """What a release adds: fields with defaults, at any depth, and a value."""
    number = {"type": "integer", "default": 0}
    spec["autoscaling"]["properties"]["scaleUpDelaySeconds"] = number
    spec["retry"]["properties"]["byError"]["items"]["properties"]["after"] = number
    spec["tracing"] = {
        "type": "object",
        "default": {},
        "properties": {"mode": {"type": "string", "default": "Off", "enum": ["Off", "On"]}},
    }
    spec["worker"]["properties"]["pool"]["enum"].append("Gevent")


def stored_with(kube: Kube, name: str, field: str) -> bool:
    spec = kube.queue(name)["spec"]
    return field in spec or any(field in it for it in spec.values() if isinstance(it, dict))


def test_a_newer_schema_stops_no_queue_of_an_older_operator(
    operator: OperatorProcess,
    kube: Kube,
    broker: Broker,
    kubelet: FakeKubelet,
    change_crd: Change,
) -> None:
    kube.declare("mail", retry={"byError": [{"error": "ValueError"}]})
    until(lambda: kube.is_ready("mail"))
    change_crd(newer)
    until(lambda: stored_with(kube, "mail", "scaleUpDelaySeconds"))
    operator.start()
    until(operator.leads)
    message = until(lambda: kube.message("mail", "Reconciling"))
    for field in (
        "spec.autoscaling.scaleUpDelaySeconds",
        "spec.retry.byError[0].after",
        "spec.tracing",
    ):
        assert f"{field}: is not a field here, in this version, and is ignored" in message
    broker.publish(kube.on_broker("mail"), 1)
    until(lambda: kube.is_ready("mail", "Running"))

    # What only a newer version can do is refused, for this queue alone, by field and value.
    kube.declare("fast", worker={"pool": "Gevent"})
    until(lambda: kube.condition("fast", "Stalled") == ("True", "InvalidSpec"))
    refusal = "spec.worker.pool: must be Solo, Prefork, Threads or Asyncio, not 'Gevent'"
    assert refusal in kube.message("fast", "Stalled")
    kube.declare("slow")
    until(lambda: kube.is_ready("slow"))


def test_an_older_schema_stops_no_queue_of_a_newer_operator(
    start_operator: StartOperator, kube: Kube, broker: Broker, change_crd: Change
) -> None:
    """As after an upgrade in the wrong order: what the schema lacks has its default."""

    def older(spec: dict[str, Any], status: dict[str, Any]) -> None:
        del status["drainingReplicas"]
        del status["scaling"]["properties"]["startWaitSeconds"]
        for known in ("properties", "default"):
            del spec["autoscaling"][known]["startWaitSeconds"]
        del spec["limits"]
        del spec["schedules"]

    change_crd(older)
    kube.secret("celeriac-broker", url=broker.url)
    until(start_operator().leads)
    kube.declare("mail")
    until(lambda: kube.is_ready("mail"))
    assert not stored_with(kube, "mail", "startWaitSeconds")
    assert "drainingReplicas" not in kube.queue("mail")["status"]
    kube.patch(kinds.QUEUES, "mail", {"spec": {"autoscaling": {"maxReplicas": 4}}})
    until(lambda: kube.queue("mail")["status"]["scaling"]["maxReplicas"] == 4)
    assert not kube.message("mail", "Reconciling")
