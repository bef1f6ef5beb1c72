"""Inside a worker: a user's Celery app, consuming one queue."""

from __future__ import annotations

from celeriac.worker.main import WorkerOptions, run_worker

__all__ = ["WorkerOptions", "run_worker"]
