"""Inside a worker: a user's Celery app, consuming one queue."""

from __future__ import annotations

from celeriac.worker.main import run_worker
from celeriac.worker.options import WorkerOptions

__all__ = ["WorkerOptions", "run_worker"]
