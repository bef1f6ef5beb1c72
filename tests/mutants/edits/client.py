"""Everything that sends, without Celery."""

from tests.mutants.table import Edit

_ENVELOPE = "src/celeriac/client/envelope.py"
_JOB = "src/celeriac/client/job.py"
_CLIENT = "src/celeriac/client/client.py"
_PUBLISHER = "src/celeriac/client/publisher.py"

EDITS = (
    Edit(
        "a chord's first member loses its place",
        _ENVELOPE,
        '"group_index": None,',
        '"group_index": 0,',
    ),
    Edit(
        "headers of one's own are left out",
        _ENVELOPE,
        "if name not in _LEFT_OUT and not _is_default(name, value)",
        "if name in _DEFAULTS and not _is_default(name, value)",
    ),
    Edit(
        "who waits for an answer is forgotten",
        _ENVELOPE,
        '*("reply_to", "priority"),',
        '*("priority",),',
    ),
    Edit(
        "a task's own word on its result is overruled",
        _ENVELOPE,
        '"ignore_result": False,\n    "replaced',
        '"ignore_result": None,\n    "replaced',
    ),
    Edit(
        "an eta is run at once",
        _ENVELOPE,
        "delay_ms=max(0, _ms_until(eta, now, timezone)) if eta else 0,",
        "delay_ms=0,",
    ),
    Edit(
        "what has expired never expires",
        _ENVELOPE,
        "ttl_ms=max(1, _ms_until(expires, now, timezone)) if expires else 0,",
        "ttl_ms=max(0, _ms_until(expires, now, timezone)) if expires else 0,",
    ),
    Edit(
        "a time without a zone is taken for UTC",
        _ENVELOPE,
        "moment = moment.replace(tzinfo=timezone)",
        "moment = moment.replace(tzinfo=UTC)",
    ),
    Edit(
        "Celery's dedup key is dropped",
        _ENVELOPE,
        'dedup_key=str(dedup_key) if dedup_key else "",',
        'dedup_key="",',
    ),
    Edit(
        "a job's delay is dropped",
        _JOB,
        'delay_ms=_ms(job.delay, "delay") if job.delay else 0,',
        "delay_ms=0,",
    ),
    Edit(
        "a job's dedup key is dropped",
        _JOB,
        'dedup_key=job.dedup_key or "",',
        'dedup_key="",',
    ),
    Edit(
        "a job that expires at once never expires",
        _JOB,
        'ttl_ms=0 if job.expires is None else max(1, _ms(job.expires, "expires")),',
        'ttl_ms=0 if not job.expires else max(1, _ms(job.expires, "expires")),',
    ),
    Edit(
        "every job has normal priority",
        _JOB,
        "priority=priority_of(job.priority),",
        'priority="normal",',
    ),
    Edit(
        "a job's id is another one",
        _JOB,
        "id=job.id or new_id(),",
        "id=new_id(),",
    ),
    Edit(
        "a job's own limit of attempts is dropped",
        _JOB,
        '        headers["max_attempts"] = max_attempts\n',
        "        pass\n",
    ),
    Edit(
        "urgent is low",
        _PUBLISHER,
        'return "high" if value < 3 else',
        'return "low" if value < 3 else',
    ),
    Edit(
        "a refusal is not told",
        _PUBLISHER,
        'if receipt.status == "refused":',
        'if receipt.status == "never":',
    ),
    Edit(
        "too few replicas are not told",
        _PUBLISHER,
        "if not receipt.replicated:",
        "if False:",
    ),
    Edit(
        "a running attempt's retry is published beside it",
        _PUBLISHER,
        "return taker is not None and taker.offer(queue, message)",
        "return taker is not None and not taker.offer(queue, message)",
    ),
    Edit(
        "publishing takes a queue's own policy away",
        _PUBLISHER,
        "queue.declare(QueuePolicy(), only_if_absent=True)",
        "queue.declare(QueuePolicy())",
    ),
    Edit(
        "the job between two chunks is lost",
        _CLIENT,
        "self._ahead.append((job, message))",
        "pass",
    ),
    Edit(
        "a bulk that is cut off forgets what it had not sent",
        _CLIENT,
        "return [job for job, _ in self._ahead] + list(self._source)",
        "return list(self._source)",
    ),
    Edit(
        "a late answer is taken for the next one's",
        "src/celeriac/client/pinned.py",
        "            connection.disconnect()\n            raise\n",
        "            raise\n",
    ),
    Edit(
        "progress writes every row",
        "src/celeriac/client/progress.py",
        "if self._next_write is not None and now < self._next_write and done < total:",
        "if False:",
    ),
    Edit(
        "the last step of a progress is not written",
        "src/celeriac/client/progress.py",
        "now < self._next_write and done < total:",
        "now < self._next_write:",
    ),
    Edit(
        "a pinned connection is never given back",
        "src/celeriac/client/pinned.py",
        "            self.pool.release(self.connection)",
        "            pass",
    ),
    Edit(
        "a late reply is taken for the next command's",
        "src/celeriac/client/pinned.py",
        "            # Whatever interrupted us, a late reply must not be taken for the next command's.\n            connection.disconnect()\n",
        "",
    ),
    Edit(
        "progress is written for every row",
        "src/celeriac/client/progress.py",
        "now < self._next_write and done < total",
        "now < self._next_write and done < 0",
    ),
    Edit(
        "a failing progress bar fails the task",
        "src/celeriac/client/progress.py",
        '            logger.warning("progress of %s was not written: %s", self._key, error)',
        "            raise",
    ),
    Edit(
        "a priority from 7 on is normal",
        "src/celeriac/client/publisher.py",
        '"normal" if value < 7 else "low"',
        '"normal" if value < 8 else "low"',
    ),
    Edit(
        "a refused message is told as sent",
        "src/celeriac/client/publisher.py",
        '    if receipt.status == "refused":\n',
        '    if receipt.status == "lost":\n',
    ),
)
