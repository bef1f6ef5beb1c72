"""Encryption: seal a message's text at rest, or move a sealed one under another key."""

from __future__ import annotations

from celeriac_messaging.errors import Conflict, NotThereYet
from celeriac_messaging.payloads import Encryption
from celeriac_messaging.tasks.registry import job_task
from celeriac_messaging.wiring import Tools


@job_task("messaging.encrypt", Encryption)
def encrypt(job: Encryption, tools: Tools) -> str:
    """Do what the payload's operation says."""
    if job.operation == "seal":
        assert job.text is not None, "the payload's own rule"
        return _seal(job, job.text, tools)
    assert job.key_id is not None, "the payload's own rule"
    return _rewrap(job, job.key_id, tools)


def _seal(job: Encryption, text: str, tools: Tools) -> str:
    """The first seal of a message is kept; the same text again is fine, another is not."""
    kept = tools.store.sealed(job.tenant, job.message_id)
    if kept is None:
        new = tools.vault.seal(job.tenant, job.message_id, text)
        kept = tools.store.put_sealed(job.tenant, job.message_id, new, tools.vault.key_of(new))
        if kept == new:
            return "sealed"
    if tools.vault.open(job.tenant, job.message_id, kept) != text:
        raise Conflict("a different text is sealed under this message_id")
    return "sealed before"


def _rewrap(job: Encryption, key_id: str, tools: Tools) -> str:
    kept = tools.store.sealed(job.tenant, job.message_id)
    if kept is None:
        raise NotThereYet("no text is sealed under this message_id")
    if tools.vault.key_of(kept) == key_id:
        return "under this key before"
    new = tools.vault.rewrap(job.tenant, job.message_id, kept, key_id)
    swapped = tools.store.replace_sealed(
        job.tenant, job.message_id, old=kept, new=new, key_id=key_id
    )
    if not swapped:
        raise NotThereYet("the sealed text changed meanwhile")
    return "moved to another key"
