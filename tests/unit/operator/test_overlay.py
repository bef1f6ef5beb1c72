"""A queue's pod template over the platform's: merged by Kubernetes' own keys, and nothing is lost."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from celeriac_operator.resources.overlay import IDENTITY, lay_over


@pytest.mark.parametrize(
    ("own", "over", "laid"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        (
            {"containers": [{"name": "worker", "image": "x"}]},
            {"containers": [{"name": "worker", "tty": True}, {"name": "side", "image": "y"}]},
            {
                "containers": [
                    {"name": "worker", "image": "x", "tty": True},
                    {"name": "side", "image": "y"},
                ]
            },
        ),
        ({}, {"volumes": [{"name": "v"}]}, {"volumes": [{"name": "v"}]}),
    ],
)
def test_a_pod_template_is_laid_over_as_kubernetes_does(own: Any, over: Any, laid: Any) -> None:
    before = json.dumps(own)
    assert lay_over(own, over) == laid
    assert json.dumps(own) == before


#: Of each list that has an identity in Kubernetes: an item of ours, what is laid over it, and one beside it.
ITEMS: dict[str, tuple[Any, Any, Any]] = {
    "claims": ({"name": "gpu"}, {"name": "gpu", "request": "one"}, {"name": "nic"}),
    "containers": ({"name": "a", "image": "x"}, {"name": "a", "tty": True}, {"name": "b"}),
    "env": ({"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B"}),
    "ephemeralContainers": ({"name": "a", "image": "x"}, {"name": "a", "tty": True}, {"name": "b"}),
    "hostAliases": (
        {"ip": "10.0.0.1", "hostnames": ["a"]},
        {"ip": "10.0.0.1", "hostnames": ["b"]},
        {"ip": "10.0.0.2", "hostnames": ["a"]},
    ),
    "imagePullSecrets": ({"name": "a"}, {"name": "a"}, {"name": "b"}),
    "initContainers": ({"name": "a", "image": "x"}, {"name": "a", "tty": True}, {"name": "b"}),
    "ports": (
        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
        {"name": "web", "containerPort": 8080},
        {"name": "web-udp", "containerPort": 8080, "protocol": "UDP"},
    ),
    "resourceClaims": ({"name": "a"}, {"name": "a", "resourceClaimName": "x"}, {"name": "b"}),
    "schedulingGates": ({"name": "a"}, {"name": "a"}, {"name": "b"}),
    "topologySpreadConstraints": (
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
        {"maxSkew": 3, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
    ),
    "volumeDevices": (
        {"name": "disk", "devicePath": "/dev/a"},
        {"name": "other", "devicePath": "/dev/a"},
        {"name": "disk", "devicePath": "/dev/b"},
    ),
    "volumeMounts": (
        {"name": "tmp", "mountPath": "/tmp", "readOnly": True},
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "tmp", "mountPath": "/var/tmp"},
    ),
    "volumes": (
        {"name": "tmp", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "more", "emptyDir": {}},
    ),
}


@pytest.mark.parametrize("field", IDENTITY)
def test_items_of_a_list_are_told_apart_as_kubernetes_does(field: str) -> None:
    own, over, beside = ITEMS[field]
    found = lay_over({field: [own]}, {field: [beside, over]})[field]
    assert found == [{**own, **over}, beside]


@pytest.mark.parametrize("field", IDENTITY)
def test_two_items_of_one_identity_stay_two_so_that_the_api_server_refuses_them(field: str) -> None:
    own, over, _ = ITEMS[field]
    found = lay_over({field: [own]}, {field: [over, over]})[field]
    assert len(found) == 2
    assert lay_over({field: []}, {field: [over, over]})[field] == [over, over]


@pytest.mark.parametrize("field", IDENTITY)
def test_an_item_without_an_identity_is_nobody_elses(field: str) -> None:
    own, _, _ = ITEMS[field]
    assert lay_over({field: [own]}, {field: [{}, "wrong"]})[field] == [own, {}, "wrong"]


@pytest.mark.parametrize(
    "field", ["tolerations", "readinessGates", "args", "command", "items", "sources", "add", "drop"]
)
def test_a_list_without_an_identity_is_replaced_even_if_its_items_have_names(field: str) -> None:
    own, over = [{"name": "a", "x": 1}, {"name": "b"}], [{"name": "a", "y": 2}]
    assert lay_over({field: own}, {field: over}) == {field: over}


@pytest.mark.parametrize(
    ("own", "over", "laid"),
    [
        (
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        ),
        (
            {"volumes": [{"name": "tmp", "emptyDir": {}}]},
            {"volumes": [{"name": "tmp", "persistentVolumeClaim": {"claimName": "c"}}]},
            {"volumes": [{"name": "tmp", "persistentVolumeClaim": {"claimName": "c"}}]},
        ),
        (
            {"livenessProbe": {"httpGet": {"path": "/livez"}, "periodSeconds": 9}},
            {"livenessProbe": {"exec": {"command": ["true"]}}},
            {"livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 9}},
        ),
    ],
)
def test_of_things_that_exclude_one_another_the_queues_counts(
    own: Any, over: Any, laid: Any
) -> None:
    assert lay_over(own, over) == laid


def test_null_takes_away_what_was_there() -> None:
    own = {"startupProbe": {"httpGet": {}}, "securityContext": {"runAsNonRoot": True, "uid": 1}}
    over = {"startupProbe": None, "securityContext": {"uid": None}, "absent": None}
    assert lay_over(own, over) == {"securityContext": {"runAsNonRoot": True}}


def test_neither_side_is_changed() -> None:
    sides = ({"ports": [{"containerPort": 1}]}, {"ports": [{"containerPort": 1, "name": "a"}]})
    before = copy.deepcopy(sides)
    lay_over(*sides)
    assert sides == before
