"""The MessageQueue resource: one queue on the broker and the workers that run it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from celeriac.spec.cron import cron_error, zone_error
from celeriac.spec.pod import EnvFrom, EnvVar, Labels, PodTemplate, Resources
from celeriac.spec.policies import (
    DeadLetterPolicy,
    Limits,
    PriorityPolicy,
    QueuePolicy,
    RetryPolicy,
)
from celeriac.spec.pools import Pool
from celeriac.spec.rules import ListMap, Rule, SpecModel
from celeriac.spec.status import MessageQueueStatus
from celeriac.spec.text import (
    AppPath,
    CronText,
    Image,
    KeyName,
    NamespaceName,
    ObjectName,
    QueueName,
    ResourceName,
    ScheduleName,
    TaskName,
    ZoneName,
)

GROUP = "celeriac.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "MessageQueue"

AutoscalingMode = Literal["Native", "KEDA", "HPA", "Off"]
DeletionPolicy = Literal["Retain", "Purge"]
PriorityName = Literal["High", "Normal", "Low"]

_DAY_S = 86_400


class WorkerSpec(SpecModel):
    """The workers: what they run, how many messages at once, and for how long."""

    image: Image = ""
    """Container image with the app and celeriac; needed on Kubernetes, ignored elsewhere."""
    app: AppPath
    """The Celery app, as module or module:attribute, such as shop.celery:app."""
    pool: Pool = "Prefork"
    """How one worker runs several messages: Prefork processes, Threads, Asyncio, or Solo (one)."""
    concurrency: int = Field(default=4, ge=1, le=1000)
    """Messages that one worker runs at once."""
    soft_timeout_seconds: int = Field(default=0, ge=0, le=30 * _DAY_S)
    """After this the task gets SoftTimeLimitExceeded, in seconds; 0: never."""
    timeout_seconds: int = Field(default=0, ge=0, le=30 * _DAY_S)
    """After this the task is ended, in seconds; 0: never. A pool that cannot do this says so."""
    drain_seconds: int = Field(default=60, ge=0, le=30 * _DAY_S)
    """How long a stopping worker may finish what it runs, in seconds; the rest becomes ready."""
    lease_seconds: int = Field(default=15, ge=3, le=3600)
    """A worker that is silent this long loses its messages to others, in seconds."""
    env: Annotated[list[EnvVar], Field(max_length=128), ListMap("name")] = []
    """Environment variables."""
    env_from: Annotated[list[EnvFrom], Field(max_length=32)] = []
    """Secrets and ConfigMaps whose keys become environment variables; Kubernetes only."""
    resources: Resources = Resources()
    """CPU and memory of one worker; Kubernetes only."""
    pod_template: PodTemplate = PodTemplate()
    """What is laid over the pod template of the workers; Kubernetes only."""

    rules = (
        Rule(
            "self.softTimeoutSeconds == 0 || self.timeoutSeconds == 0"
            " || self.softTimeoutSeconds < self.timeoutSeconds",
            lambda it: (
                not it.soft_timeout_seconds
                or not it.timeout_seconds
                or it.soft_timeout_seconds < it.timeout_seconds
            ),
            "softTimeoutSeconds must be less than timeoutSeconds: lower it or raise timeoutSeconds",
        ),
    )

    @property
    def slots(self) -> int:
        """Messages that one worker really runs at once."""
        return 1 if self.pool == "Solo" else self.concurrency


class Autoscaling(SpecModel):
    """How many workers run."""

    mode: AutoscalingMode = "Native"
    """Native follows the queue; KEDA and HPA leave it to those; Off keeps a fixed number."""
    min_replicas: int = Field(default=0, ge=0, le=1000)
    """The least number of workers; 0 lets an empty queue run without any."""
    max_replicas: int = Field(default=10, ge=1, le=1000)
    """The greatest number of workers."""
    start_wait_seconds: int = Field(default=10, ge=1, le=_DAY_S)
    """How long a message should wait at most until a worker starts it, in seconds."""
    scale_down_delay_seconds: int = Field(default=30, ge=0, le=3600)
    """Fewer workers must have been enough for this long before some stop, in seconds."""

    rules = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            lambda it: it.min_replicas <= it.max_replicas,
            "minReplicas must not be greater than maxReplicas: lower it or raise maxReplicas",
        ),
    )


class Schedule(SpecModel):
    """A message that is sent again and again, by the clock."""

    name: ScheduleName
    """Name of the schedule, unique in the queue."""
    cron: CronText
    """When: minute, hour, day of month, month (1-12 or JAN-DEC), day of week (0-7 or SUN-SAT)."""
    time_zone: ZoneName = "UTC"
    """Time zone that the cron expression is meant in, such as Europe/Berlin."""
    task: TaskName
    """Name of the Celery task."""
    args: list[Any] = Field(
        default=[],
        max_length=64,
        json_schema_extra={"items": {"x-kubernetes-preserve-unknown-fields": True}},
    )
    """Positional arguments, as JSON."""
    kwargs: dict[str, Any] = Field(
        default={}, max_length=64, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """Keyword arguments, as JSON."""
    priority: PriorityName = "Normal"
    """Priority of the messages."""

    @field_validator("cron")
    @classmethod
    def _known_cron(cls, value: str) -> str:
        return _refuse(value, cron_error(value))

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return _refuse(value, zone_error(value))


class SecretRef(SpecModel):
    """A Secret in the resource's namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: KeyName = "url"
    """Key that holds the broker's URL."""


class BrokerRef(SpecModel):
    """Which broker the queue lies on; Kubernetes only, `celeriac up` has one broker for all."""

    secret_ref: SecretRef
    """The Secret with the broker's URL."""


class MessageQueueSpec(SpecModel):
    """What is declared of a queue."""

    queue: QueueName | None = None
    """Name of the queue on the broker; absent: the resource's name. It cannot be changed."""
    broker: BrokerRef | None = None
    """Which broker the queue lies on; absent: the platform's own."""
    worker: WorkerSpec
    """The workers. Changing them starts new processes."""
    retry: RetryPolicy = RetryPolicy()
    """When a failed attempt is followed by another one."""
    dead_letter: DeadLetterPolicy = DeadLetterPolicy()
    """When a message is given up, and how long it is kept."""
    priority: PriorityPolicy = PriorityPolicy()
    """In which order waiting messages are served."""
    schedules: Annotated[list[Schedule], Field(max_length=64), ListMap("name")] = []
    """Messages that are sent by the clock."""
    limits: Limits = Limits()
    """What the queue refuses to accept."""
    autoscaling: Autoscaling = Autoscaling()
    """How many workers run."""
    replicas: int = Field(default=0, ge=0, le=1000)
    """Workers asked for through /scale (as by kubectl scale): with Native the least number, in
    other modes the number itself; always within minReplicas and maxReplicas."""
    paused: bool = False
    """Hand out no messages and start no workers; producers may go on."""
    deletion_policy: DeletionPolicy = "Retain"
    """What becomes of the messages when the resource is deleted: Retain or Purge."""

    rules = (
        Rule(
            "has(self.queue) == has(oldSelf.queue)"
            " && (!has(self.queue) || self.queue == oldSelf.queue)",
            None,  # a change, not a state: `change_errors` holds it for files
            "queue must not be changed: declare a new MessageQueue and move the messages",
        ),
    )

    @property
    def policy(self) -> QueuePolicy:
        """What producers and workers read from the queue's record on the broker."""
        return QueuePolicy(
            retry=self.retry,
            dead_letter=self.dead_letter,
            priority=self.priority,
            limits=self.limits,
            paused=self.paused,
        )


class Metadata(SpecModel):
    """The resource's name and labels; the rest is filled in by Kubernetes."""

    name: ResourceName
    """Name of the resource, at most 47 characters, so that names of pods stay under 64."""
    namespace: NamespaceName | None = None
    """Namespace; without meaning on a local machine."""
    labels: Labels = {}
    """Labels."""
    annotations: Annotated[dict[str, str], Field(max_length=256)] = {}
    """Annotations."""
    generation: int = 0
    """Number of the declaration; grows with every change of the spec."""
    uid: str = ""
    """Identity of the resource."""
    resource_version: str = ""
    """Version of the stored object."""
    creation_timestamp: str | None = None
    """When the resource was created."""
    deletion_timestamp: str | None = None
    """When its deletion was asked for."""
    deletion_grace_period_seconds: int | None = None
    """Time for its deletion."""
    generate_name: str | None = None
    """Kubernetes' way to make up names."""
    finalizers: list[str] = []
    """Who must act before it goes."""
    owner_references: list[dict[str, Any]] = []
    """Whom it belongs to."""
    managed_fields: list[dict[str, Any]] = []
    """Who wrote which field."""


class MessageQueue(SpecModel):
    """A queue on the broker and the Celery workers that run its messages."""

    api_version: Literal["celeriac.dev/v1alpha1"]
    """celeriac.dev/v1alpha1."""
    kind: Literal["MessageQueue"]
    """MessageQueue."""
    metadata: Metadata
    """Name and labels."""
    spec: MessageQueueSpec
    """What is declared."""
    status: MessageQueueStatus | None = None
    """What is true; written by the platform."""

    rules = (
        Rule(
            "self.metadata.name.size() <= 47 && !self.metadata.name.contains('.')",
            None,  # ResourceName holds it for files
            "metadata.name must have at most 47 characters and no dot: choose a shorter name",
        ),
    )

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.metadata.name

    @property
    def queue_name(self) -> str:
        """Name of the queue on the broker."""
        return self.spec.queue or self.metadata.name


def change_errors(old: MessageQueue, new: MessageQueue) -> list[str]:
    """Say why ``new`` cannot take the place of ``old``; an empty list when it can."""
    if old.queue_name == new.queue_name and old.spec.queue == new.spec.queue:
        return []
    return [rule.message for rule in MessageQueueSpec.rules if "oldSelf" in rule.cel]


def _refuse(value: str, error: str | None) -> str:
    if error is not None:
        raise PydanticCustomError("rule", "{text}", {"text": error})
    return value
