"""Celeriac, the root under Celery: declare a queue; it runs, retries, dead-letters, scales, explains itself.

Importing this package is enough for any Celery app to use a broker URL of ours (`celeriac://…`). That
costs next to nothing: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celeriac.transport import registration as _registration

if TYPE_CHECKING:
    from celeriac.broker.message import Receipt
    from celeriac.broker.refusal import BrokerRefuses
    from celeriac.client.client import BulkInterrupted, BulkReceipt, Client
    from celeriac.client.job import Job
    from celeriac.client.progress import Progress, report_progress
    from celeriac.client.publisher import MessageRefused, NotReplicated

    __version__: str

_HOMES = {
    "BrokerRefuses": "celeriac.broker.refusal",
    "BulkInterrupted": "celeriac.client.client",
    "BulkReceipt": "celeriac.client.client",
    "Client": "celeriac.client.client",
    "Job": "celeriac.client.job",
    "MessageRefused": "celeriac.client.publisher",
    "NotReplicated": "celeriac.client.publisher",
    "Progress": "celeriac.client.progress",
    "Receipt": "celeriac.broker.message",
    "report_progress": "celeriac.client.progress",
}

__all__ = [
    "BrokerRefuses",
    "BulkInterrupted",
    "BulkReceipt",
    "Client",
    "Job",
    "MessageRefused",
    "NotReplicated",
    "Progress",
    "Receipt",
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
