"""Indexing: make a message findable, or take it out; the highest revision wins."""

from __future__ import annotations

from celeriac_messaging.payloads import Indexing
from celeriac_messaging.tasks.registry import job_task
from celeriac_messaging.wiring import Tools


@job_task("messaging.index", Indexing)
def index(job: Indexing, tools: Tools) -> str:
    """Apply one revision; repeated or overtaken ones change nothing."""
    if job.text is None:
        applied = tools.search.remove(job.tenant, job.message_id, revision=job.revision)
    else:
        applied = tools.search.put(job.tenant, job.message_id, revision=job.revision, text=job.text)
    return job.operation if applied else "overtaken"
