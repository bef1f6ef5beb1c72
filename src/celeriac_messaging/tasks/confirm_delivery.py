"""DeliveryConfirmation: what became of a message. May come before, after, or twice."""

from __future__ import annotations

from celeriac_messaging.adapters.base import Delivery
from celeriac_messaging.payloads import DeliveryConfirmation
from celeriac_messaging.tasks.registry import job_task
from celeriac_messaging.wiring import Tools


@job_task("messaging.confirm_delivery", DeliveryConfirmation)
def confirm_delivery(job: DeliveryConfirmation, tools: Tools) -> str:
    """Move the delivery's state up; the merge itself is harmless to repeat."""
    at_ms = int(job.at.timestamp() * 1000)
    delivery = Delivery(job.tenant, job.message_id, job.recipient.key, job.state, at_ms)
    return job.state if tools.store.confirm(delivery) else "known before"
