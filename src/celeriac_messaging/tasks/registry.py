"""`job_task`: a function of (payload, tools) as a Celery task that takes the payload as JSON."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from celery import shared_task

from celeriac_messaging.payloads import Payload, load
from celeriac_messaging.wiring import Tools, tools

P = TypeVar("P", bound=Payload)
Done = str
"""One word on what was done, for the log; never content."""

log = logging.getLogger("celeriac_messaging.job")


def job_task(
    name: str, kind: type[P]
) -> Callable[[Callable[[P, Tools], Done]], Callable[[P, Tools], Done]]:
    """Register the decorated function as the task `name`; the function itself stays as it is."""

    def decorate(work: Callable[[P, Tools], Done]) -> Callable[[P, Tools], Done]:
        @functools.wraps(work)
        def run(payload: dict[str, Any]) -> Done:
            job = load(kind, payload)
            done = work(job, tools())
            log.info("done", extra={"fields": {"what": done, "tenant": job.tenant}})
            return done

        del run.__wrapped__  # or Celery would check calls against the inner signature
        shared_task(name=name)(run)
        return work

    return decorate


def effect_of(job: Payload) -> str:
    """The key that all effects of a job carry: its id. Only for kinds that have an identity."""
    job_id = job.job_id
    assert job_id is not None, "kinds without identity have no effects to mark"
    return job_id
