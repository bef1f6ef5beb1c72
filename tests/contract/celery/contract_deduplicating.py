"""The contract app, told to look for the result of what was delivered before."""

from __future__ import annotations

import contract_async_tasks  # noqa: F401
from contract_app import app

app.conf.update(task_acks_late=True, worker_deduplicate_successful_tasks=True)
