"""SendMessage: one message to one recipient, by signed webhook or e-mail."""

from __future__ import annotations

import json

from celeriac_messaging.adapters.base import Delivery
from celeriac_messaging.payloads import EmailRecipient, SendMessage, WebhookRecipient
from celeriac_messaging.tasks.registry import effect_of, job_task
from celeriac_messaging.wiring import Tools


@job_task("messaging.send_message", SendMessage)
def send_message(job: SendMessage, tools: Tools) -> str:
    """Deliver the message, unless that has been done, and remember that it is at the recipient."""
    effect = effect_of(job)
    if tools.store.is_done(effect):
        return "delivered before"
    match job.recipient:
        case WebhookRecipient(url=url):
            tools.webhooks.post(effect=effect, url=url, document=document(job))
        case EmailRecipient(email=email):
            tools.mailer.send(
                effect=effect,
                to=email,
                sender=job.sender,
                subject=job.subject or f"Message from {job.sender}",
                body=job.body,
            )
    delivery = Delivery(
        job.tenant, job.message_id, job.recipient.key, state="sent", at_ms=tools.now_ms()
    )
    tools.store.record(effect, kind="send_message", delivery=delivery)
    return f"sent by {job.recipient.channel}"


def document(job: SendMessage) -> bytes:
    """The JSON that a webhook receives; the same on every attempt."""
    data = {
        "tenant": job.tenant,
        "message_id": job.message_id,
        "sender": job.sender,
        "subject": job.subject,
        "body": job.body,
    }
    event = {"type": "message.sent", "data": data}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
