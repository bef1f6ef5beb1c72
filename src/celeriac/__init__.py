"""Celeriac, the root under Celery: declare a queue; it runs, retries, dead-letters, scales, explains itself.

Importing this package is enough for any Celery app to use a broker URL of ours (`celeriac://…`). That
costs next to nothing: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celeriac.transport import registration as _registration

if TYPE_CHECKING:
    from celeriac.broker.message import Histogram, QueueStats, Receipt, WorkerSeen
    from celeriac.broker.refusal import BrokerError, BrokerRefuses, BrokerUnreachable
    from celeriac.broker.replication import Replication
    from celeriac.broker.signing import SigningKeysError
    from celeriac.broker.url import BrokerURLError
    from celeriac.client.client import BulkInterrupted, BulkReceipt, Client
    from celeriac.client.job import Job
    from celeriac.client.progress import Progress, report_progress
    from celeriac.client.publisher import MessageRefused, NotReplicated
    from celeriac.spec.errors import CeleriacError

    __version__: str

_HOMES = {
    "BrokerError": "celeriac.broker.refusal",
    "BrokerRefuses": "celeriac.broker.refusal",
    "BrokerURLError": "celeriac.broker.url",
    "BrokerUnreachable": "celeriac.broker.refusal",
    "BulkInterrupted": "celeriac.client.client",
    "BulkReceipt": "celeriac.client.client",
    "CeleriacError": "celeriac.spec.errors",
    "Client": "celeriac.client.client",
    "Histogram": "celeriac.broker.message",
    "Job": "celeriac.client.job",
    "MessageRefused": "celeriac.client.publisher",
    "NotReplicated": "celeriac.client.publisher",
    "Progress": "celeriac.client.progress",
    "QueueStats": "celeriac.broker.message",
    "Receipt": "celeriac.broker.message",
    "Replication": "celeriac.broker.replication",
    "SigningKeysError": "celeriac.broker.signing",
    "WorkerSeen": "celeriac.broker.message",
    "report_progress": "celeriac.client.progress",
}

__all__ = [
    "BrokerError",
    "BrokerRefuses",
    "BrokerURLError",
    "BrokerUnreachable",
    "BulkInterrupted",
    "BulkReceipt",
    "CeleriacError",
    "Client",
    "Histogram",
    "Job",
    "MessageRefused",
    "NotReplicated",
    "Progress",
    "QueueStats",
    "Receipt",
    "Replication",
    "SigningKeysError",
    "WorkerSeen",
    "__version__",
    "report_progress",
]

_registration.register()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("celeriac")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
