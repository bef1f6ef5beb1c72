"""The messaging application."""

from tests.mutants.table import Edit

_TASKS = "src/celeriac_messaging/tasks/"

EDITS = (
    Edit(
        "a message is delivered again",
        _TASKS + "send_message.py",
        "    if tools.store.is_done(effect):\n",
        "    if False:\n",
    ),
    Edit(
        "a delivery is not remembered",
        _TASKS + "send_message.py",
        '    tools.store.record(effect, kind="send_message", delivery=delivery)\n',
        "",
    ),
    Edit(
        "a person is notified twice",
        _TASKS + "notify.py",
        "    if tools.store.is_done(effect):\n",
        "    if False:\n",
    ),
    Edit(
        "a batch is done with its first chunk",
        _TASKS + "send_batch.py",
        "for start in range(0, total, CHUNK):",
        "for start in range(0, min(total, CHUNK), CHUNK):",
    ),
    Edit(
        "a batch that was refused is done",
        _TASKS + "send_batch.py",
        "        if bulk.refused:\n",
        "        if False:\n",
    ),
    Edit(
        "a dry run removes",
        _TASKS + "cleanup.py",
        "    if job.dry_run:\n",
        "    if False:\n",
    ),
    Edit(
        "another text takes a sealed one's place",
        _TASKS + "encrypt.py",
        "if tools.vault.open(job.tenant, job.message_id, kept) != text:",
        "if False:",
    ),
    Edit(
        "an overtaken revision wins",
        _TASKS + "index.py",
        "tools.search.put(job.tenant, job.message_id, revision=job.revision, text=job.text)",
        "tools.search.put(job.tenant, job.message_id, revision=2**31, text=job.text)",
    ),
    Edit(
        "a job that is enqueued twice runs twice",
        "src/celeriac_messaging/service.py",
        'options |= {"id": job_id, "dedup_key": job_id, "dedup_seconds": self._dedup_seconds}',
        'options |= {"id": job_id}',
    ),
    Edit(
        "what is urgent goes with the rest",
        "src/celeriac_messaging/service.py",
        '"priority": PRIORITIES[job.urgency],',
        '"priority": "normal",',
    ),
    Edit(
        "a later time is now",
        "src/celeriac_messaging/service.py",
        "return max(at - self._now(), timedelta(0))",
        "return timedelta(0)",
    ),
    Edit(
        "an error's text stands in the log",
        "src/celeriac_messaging/logs.py",
        'fields = getattr(record, "fields", None)\n        if _is_ours(record) and isinstance(',
        'fields = getattr(record, "fields", None)\n        if isinstance(',
    ),
)
