"""The workers of a queue as a Deployment, without a number of replicas: that is somebody else's field."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from celeriac.spec.pod import EnvFrom, EnvVar
from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, broker_secret, config_map, names
from celeriac_operator.resources.overlay import lay_over
from celeriac_operator.resources.rendering import digest

CONTAINER = "worker"
#: Beyond the drain: time to hand back what still runs, and to end.
GRACE_SECONDS = 10
#: Variables that the platform sets, whatever a queue declares.
_OURS = ("CELERIAC_BROKER_CA", "CELERIAC_BROKER_URL", "CELERIAC_POD", "CELERIAC_WORKER_NAME")
_CA_FOLDER = "/etc/celeriac/broker"


@dataclass(frozen=True, slots=True)
class BrokerSecret:
    """Where workers find the broker's URL: a Secret beside them."""

    secret: str
    key: str
    digest: str
    """Changes with the value, so that new processes are started."""
    ca: bool = False
    """Whether the Secret has CA certificates too."""


def deployment(queue: MessageQueue, *, image: str, broker: BrokerSecret) -> Object:
    """Build the Deployment."""
    template = pod_template(queue, image=image, broker=broker)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **names.metadata(queue),
            "annotations": {names.MODE: queue.spec.autoscaling.mode},
        },
        "spec": {
            "selector": {"matchLabels": names.selector(queue)},
            # A new worker is there before an old one goes, and an empty queue rolls nothing.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
            },
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "template": template,
        },
    }


def seed(queue: MessageQueue, *, image: str, replicas: int = 0) -> Object:
    """Build the least Deployment: created first, by the manager of replicas, which then stays theirs.

    Server-side apply without `replicas` would start one worker, which an empty queue does not want.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(queue),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": names.selector(queue)},
            "template": {
                "metadata": {"labels": names.labels(queue)},
                "spec": {"containers": [{"name": CONTAINER, "image": image}]},
            },
        },
    }


def pod_template(queue: MessageQueue, *, image: str, broker: BrokerSecret) -> Object:
    """Build the pod template, with what the queue lays over it."""
    over = copy.deepcopy(queue.spec.worker.pod_template)
    own = _pod_spec(queue, image=image, broker=broker)
    annotations = {
        **over.metadata.annotations,
        # What a process reads when it starts: a change must start new ones.
        "celeriac.dev/options": digest(config_map.options(queue)),
        "celeriac.dev/broker": broker.digest,
    }
    template: Object = {
        "metadata": {
            "labels": {**over.metadata.labels, **names.labels(queue)},
            "annotations": annotations,
        },
        "spec": lay_over(own, over.spec),
    }
    template["metadata"]["labels"][names.TEMPLATE] = digest(template)
    return template


def _pod_spec(queue: MessageQueue, *, image: str, broker: BrokerSecret) -> Object:
    worker = queue.spec.worker
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {}}]
    if broker.ca:
        items = [{"key": broker_secret.CA, "path": broker_secret.CA}]
        volumes.append(
            {"name": "broker-ca", "secret": {"secretName": broker.secret, "items": items}}
        )
    return {
        # The kernel keeps from a namespace's first process each signal that it has no handler for, and leaves
        # it the orphans. So that is the pod's pause process: a worker that is told to end before it has
        # imported its app ends, in whatever image, and what its tasks left behind is reaped.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": worker.drain_seconds + GRACE_SECONDS,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": names.selector(queue)},
            }
        ],
        "containers": [_container(queue, image=image, broker=broker)],
        "volumes": volumes,
    }


def _container(queue: MessageQueue, *, image: str, broker: BrokerSecret) -> Object:
    worker = queue.spec.worker
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  # the only writable folder
    if broker.ca:
        mounts.append({"name": "broker-ca", "mountPath": _CA_FOLDER, "readOnly": True})
    resources = {
        "requests": {"cpu": "50m", "memory": "128Mi", **worker.resources.requests},
        "limits": {"memory": "512Mi", **worker.resources.limits},
    }
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["celeriac", "worker"],
        "env": _environment(queue, broker),
        "envFrom": [
            *[_env_from(it) for it in worker.env_from],
            {"configMapRef": {"name": queue.name + names.WORKER_SUFFIX}},
        ],
        "ports": [{"name": "http", "containerPort": config_map.HTTP_PORT, "protocol": "TCP"}],
        # A broker outage makes workers unready and never dead: a restart would not help.
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(queue: MessageQueue, broker: BrokerSecret) -> list[Object]:
    url = {"secretKeyRef": {"name": broker.secret, "key": broker.key}}
    ca = {"name": "CELERIAC_BROKER_CA", "value": f"{_CA_FOLDER}/{broker_secret.CA}"}
    return [
        *[_env(it) for it in queue.spec.worker.env if it.name not in _OURS],
        {"name": "CELERIAC_BROKER_URL", "valueFrom": url},
        *([ca] if broker.ca else []),
        {"name": "CELERIAC_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        # The worker adds its start, so that one that follows a dead one in its pod is another one.
        {"name": "CELERIAC_WORKER_NAME", "value": "$(CELERIAC_POD):"},
    ]


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _env(variable: EnvVar) -> Object:
    return variable.model_dump(by_alias=True, exclude_none=True)


def _env_from(source: EnvFrom) -> Object:
    return source.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
