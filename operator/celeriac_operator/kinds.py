"""The kinds of objects that the operator reads or writes."""

from __future__ import annotations

from celeriac_operator.api import Kind
from celeriac_operator.resources import names

QUEUES = Kind("MessageQueue", names.PLURAL, names.GROUP, names.VERSION)
DEPLOYMENTS = Kind("Deployment", "deployments", "apps")
PODS = Kind("Pod", "pods")
CONFIG_MAPS = Kind("ConfigMap", "configmaps")
BUDGETS = Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy")
POLICIES = Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io")
SCALED_OBJECTS = Kind("ScaledObject", "scaledobjects", "keda.sh", "v1alpha1")
AUTHENTICATIONS = Kind("TriggerAuthentication", "triggerauthentications", "keda.sh", "v1alpha1")
SECRETS = Kind("Secret", "secrets")
LEASES = Kind("Lease", "leases", "coordination.k8s.io")
EVENTS = Kind("Event", "events", "events.k8s.io")
