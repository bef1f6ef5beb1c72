"""Notification: tell one person that something happened."""

from __future__ import annotations

from celeriac_messaging.payloads import EmailTarget, Notification, PushTarget
from celeriac_messaging.tasks.registry import effect_of, job_task
from celeriac_messaging.wiring import Tools


@job_task("messaging.notify", Notification)
def notify(job: Notification, tools: Tools) -> str:
    """Push or mail the notification, unless that has been done."""
    effect = effect_of(job)
    if tools.store.is_done(effect):
        return "notified before"
    match job.target:
        case PushTarget() as target:
            urgent = job.urgency in ("critical", "realtime")
            tools.push.send(
                effect=effect, target=target, document=job.push_document(), urgent=urgent
            )
        case EmailTarget(email=email):
            body = f"{job.body}\n\n{job.link}\n" if job.link else job.body
            tools.mailer.send(
                effect=effect, to=email, sender=job.tenant, subject=job.title, body=body
            )
    tools.store.record(effect, kind="notify")
    return f"sent by {job.target.channel}"
