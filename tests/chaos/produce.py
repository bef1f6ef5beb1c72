"""A producer that is killed in the midst of its work: sends numbered jobs in one bulk, or one by one.

python -m tests.chaos.produce celeriac|stock URL NUMBER
"""

from __future__ import annotations

import sys

from celery import Celery

import celeriac


def ids(number: int) -> list[str]:
    """The jobs' ids."""
    return [f"b{n:06}" for n in range(number)]


def calls(number: int) -> list[celeriac.Job]:
    """The jobs, each with a text of its own length, and a key that keeps out a second copy."""
    return [
        celeriac.Job("chaos.text", (id_, "x" * (n % 700)), id=id_, dedup_key=id_)
        for n, id_ in enumerate(ids(number))
    ]


def main(system: str, url: str, number: int) -> None:
    """Send them all."""
    if system == "celeriac":
        with celeriac.Client(url) as client:
            client.send_many("chaos", calls(number))
        return
    app = Celery("producer", broker=url)
    with app.producer_pool.acquire(block=True) as producer:
        for job in calls(number):
            app.send_task(
                job.task,
                job.args,
                task_id=job.id,
                queue="chaos",
                producer=producer,
                ignore_result=True,
                retry=False,
            )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
