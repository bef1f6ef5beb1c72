"""BatchSend: one text to many; every recipient becomes a message of its own.

The messages' ids follow from the batch's id, so a worker that died half-way is simply followed by
one that starts again: what was enqueued before is a duplicate.
"""

from __future__ import annotations

from celeriac import report_progress
from celeriac_messaging.errors import TransientError
from celeriac_messaging.payloads import BatchSend
from celeriac_messaging.tasks.registry import job_task
from celeriac_messaging.wiring import Tools

CHUNK = 50


@job_task("messaging.send_batch", BatchSend)
def send_batch(job: BatchSend, tools: Tools) -> str:
    """Enqueue a message for each recipient. Raises TransientError when the queue is full."""
    queues = tools.queues()
    total = len(job.recipients)
    accepted = 0
    for start in range(0, total, CHUNK):
        chunk = range(start, min(start + CHUNK, total))
        bulk = queues.send_messages([job.message_for(index) for index in chunk])
        accepted += bulk.accepted
        if bulk.refused:
            reason = bulk.refused[0].reason
            raise TransientError(f"refused {len(bulk.refused)} of {len(chunk)}: {reason}")
        report_progress(chunk.stop, total, "messages enqueued")
    return f"enqueued {accepted} of {total}"
