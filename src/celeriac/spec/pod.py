"""The parts of a worker that Kubernetes defines: environment, resources, pod template.

They keep Kubernetes' own names and shapes, so that whoever knows a Pod knows these.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from celeriac.spec.rules import Rule, SpecModel
from celeriac.spec.text import EnvName, EnvPrefix, KeyName, ObjectName, Quantity

Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)]
Annotations = Annotated[dict[str, Annotated[str, Field(max_length=65_536)]], Field(max_length=64)]


class KeyRef(SpecModel):
    """One key of a Secret or ConfigMap in the resource's namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: KeyName
    """Key whose value is taken."""
    optional: bool = False
    """Start without the variable when the object or the key is missing."""


class FieldRef(SpecModel):
    """A field of the worker's own pod."""

    field_path: str = Field(min_length=1, max_length=253)
    """Path of the field, such as metadata.namespace."""


class EnvSource(SpecModel):
    """Where the value of an environment variable comes from."""

    secret_key_ref: KeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""
    field_ref: FieldRef | None = None
    """A field of the pod."""

    rules = (
        Rule(
            "(has(self.secretKeyRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0)"
            " + (has(self.fieldRef) ? 1 : 0) == 1",
            lambda it: [it.secret_key_ref, it.config_map_key_ref, it.field_ref].count(None) == 2,
            "exactly one of secretKeyRef, configMapKeyRef and fieldRef must be given",
        ),
    )


class EnvVar(SpecModel):
    """An environment variable of the worker."""

    name: EnvName
    """Name of the variable."""
    value: str | None = Field(default=None, max_length=32_768)
    """Its value."""
    value_from: EnvSource | None = None
    """Where its value comes from; on a local machine it must be set in the environment instead."""

    rules = (
        Rule(
            "!has(self.value) || !has(self.valueFrom)",
            lambda it: it.value is None or it.value_from is None,
            "value and valueFrom must not both be given: remove one",
        ),
    )


class ObjectRef(SpecModel):
    """A Secret or ConfigMap in the resource's namespace."""

    name: ObjectName
    """Name of the object."""
    optional: bool = False
    """Start without it when it is missing."""


class EnvFrom(SpecModel):
    """All keys of a Secret or ConfigMap as environment variables; Kubernetes only."""

    prefix: EnvPrefix = ""
    """Put before every key."""
    secret_ref: ObjectRef | None = None
    """The Secret."""
    config_map_ref: ObjectRef | None = None
    """The ConfigMap."""

    rules = (
        Rule(
            "has(self.secretRef) != has(self.configMapRef)",
            lambda it: (it.secret_ref is None) != (it.config_map_ref is None),
            "exactly one of secretRef and configMapRef must be given",
        ),
    )


class Resources(SpecModel):
    """CPU and memory of one worker; Kubernetes only."""

    requests: Quantities = {}
    """What the scheduler sets aside, such as cpu: 500m and memory: 256Mi."""
    limits: Quantities = {}
    """What the worker cannot exceed."""


class PodMetadata(SpecModel):
    """Labels and annotations for the worker's pods, beside the platform's own."""

    labels: Labels = {}
    """Labels to add."""
    annotations: Annotations = {}
    """Annotations to add."""


class PodTemplate(SpecModel):
    """What is laid over the worker's pod template; Kubernetes only."""

    metadata: PodMetadata = PodMetadata()
    """Labels and annotations to add."""
    spec: dict[str, Any] = Field(
        default={}, max_length=64, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """A partial PodSpec: nodeSelector, tolerations, volumes, serviceAccountName and so on."""
