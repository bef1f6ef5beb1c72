"""Cleanup: remove what is older than the payload says, in small transactions."""

from __future__ import annotations

from celeriac import report_progress
from celeriac_messaging.payloads import Cleanup
from celeriac_messaging.tasks.registry import job_task
from celeriac_messaging.wiring import Tools

CHUNK = 500
DAY_MS = 86_400_000


@job_task("messaging.cleanup", Cleanup)
def cleanup(job: Cleanup, tools: Tools) -> str:
    """Count, then remove unless it is a dry run; what is gone already is no error."""
    before_ms = tools.now_ms() - job.older_than_days * DAY_MS
    total = sum(tools.store.count_older(kind, before_ms) for kind in job.what)
    if job.dry_run:
        return f"would remove {total}"
    done = 0
    for kind in job.what:
        while keys := tools.store.older(kind, before_ms, limit=CHUNK):
            if kind == "messages":  # the index first: it must not outlive the sealed text
                for tenant, message_id in keys:
                    tools.search.remove(tenant, message_id)
            done += tools.store.remove(kind, keys)
            report_progress(done, max(total, done), kind)
    return f"removed {done}"
