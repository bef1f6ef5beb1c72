"""Tasks of the contract app, as a user of Celery would write them."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject
from contract_app import app, count, note


class Flaky(Exception):
    """Raised by tasks that are meant to fail."""


class Hopeless(Exception):
    """An error that a queue's rules may know."""


# --- ordinary tasks ---------------------------------------------------------------------------------


@app.task(name="add")
def add(a: int, b: int) -> int:
    note("ran")
    return a + b


@app.task(name="total")
def total(numbers: list[int]) -> int:
    note("ran")
    return sum(numbers)


@app.task(name="same")
def same(value: Any) -> Any:
    return value


@app.task(name="collect")
def collect(values: list[Any]) -> list[Any]:
    return values


@app.task(name="label")
def label(text: str, key: str) -> None:
    note(text, key=key)


@app.task(name="ignored", ignore_result=True)
def ignored() -> int:
    note("ran")
    return 1


@app.task(name="show_request", bind=True)
def show_request(self: Task) -> dict[str, Any]:
    request = self.request
    shown: dict[str, Any] = {
        name: getattr(request, name)
        for name in (
            "id",
            "retries",
            "hostname",
            "headers",
            "delivery_info",
            "root_id",
            "parent_id",
            "args",
            "correlation_id",
            "is_eager",
            "called_directly",
            "timelimit",
            "expires",
        )
    }
    note("ran", request=shown)
    return shown


@app.task(name="nap")
def nap(seconds: float) -> str:
    note("started")
    time.sleep(seconds)
    note("ended")
    return "rested"


@app.task(name="nothing")
def nothing() -> None:
    pass


@app.task(name="leave_mark", bind=True)
def leave_mark(self: Task, key: str, number: int) -> None:
    """Short, and says how often it was delivered."""
    note("marked", key=key, number=number, delivery=self.request.delivery_info["delivery"])


@app.task(name="mixture")
def mixture(number: int, key: str) -> int:
    """One in ten fails once, one in a hundred always."""
    if number % 100 == 0:
        raise Hopeless(number)
    if number % 10 == 0 and count(f"{key}:{number}") == 1:
        raise Flaky(number)
    return number


@app.task(name="note_result")
def note_result(result: Any, key: str) -> None:
    note("linked", key=key, result=result)


@app.task(name="note_error")
def note_error(request: Any, error: Any, traceback: Any, key: str) -> None:
    note("errback", key=key, failed=request.id, error=repr(error))


# --- retries and failures ---------------------------------------------------------------------------


@app.task(name="fail")
def fail(text: str = "on purpose") -> None:
    note("ran")
    raise Flaky(text)


@app.task(name="fail_hopelessly")
def fail_hopelessly() -> None:
    note("ran")
    raise Hopeless("no use")


@app.task(name="keep_secret")
def keep_secret(secret: str, *, how: str) -> None:
    """Ends badly without telling its argument."""
    if how == "fail":
        raise Flaky("nothing to see here")
    if how == "retry":
        raise keep_secret.retry(args=(secret,), kwargs={"how": "fail"}, countdown=0)
    if how == "reject":
        raise Reject("not here", requeue=False)
    if how == "exit":
        os._exit(1)
    time.sleep(10)


@app.task(name="fail_slowly")
def fail_slowly(seconds: float) -> None:
    note("ran")
    time.sleep(seconds)
    raise Flaky("slow")


@app.task(name="succeed_at", bind=True)
def succeed_at(self: Task, attempt: int) -> int:
    note("ran", retries=self.request.retries)
    if self.request.retries + 1 < attempt:
        raise Flaky("not yet")
    return int(self.request.retries)


@app.task(name="climb", bind=True, max_retries=5)
def climb(self: Task, step: int, *, top: int, countdown: float = 0) -> int:
    note("ran", step=step, retries=self.request.retries)
    if step < top:
        raise self.retry(args=(step + 1,), countdown=countdown)
    return step


@app.task(name="give_up", bind=True, max_retries=2, default_retry_delay=0)
def give_up(self: Task) -> None:
    note("ran", retries=self.request.retries)
    try:
        raise Flaky("inner")
    except Flaky as error:
        raise self.retry(exc=error) from error


@app.task(name="give_up_plainly", bind=True, max_retries=1, default_retry_delay=0)
def give_up_plainly(self: Task) -> None:
    note("ran")
    self.retry()


@app.task(
    name="auto",
    bind=True,
    autoretry_for=(Flaky,),
    retry_kwargs={"max_retries": 2, "countdown": 0},
)
def auto(self: Task, succeed_on: int) -> int:
    note("ran", retries=self.request.retries)
    if self.request.retries < succeed_on:
        raise Flaky("again")
    return int(self.request.retries)


@app.task(name="retry_softly", bind=True)
def retry_softly(self: Task) -> str:
    note("ran", retries=self.request.retries)
    if self.request.retries == 0:
        self.retry(countdown=0, throw=False)
    return f"run {self.request.retries}"


@app.task(name="retry_elsewhere", bind=True, max_retries=2)
def retry_elsewhere(self: Task, queue: str) -> int:
    note("ran", retries=self.request.retries)
    if self.request.retries < 2:
        raise self.retry(queue=queue, countdown=0)
    return int(self.request.retries)


@app.task(name="reject", bind=True)
def reject(self: Task, requeue: bool) -> None:
    note("ran", info=self.request.delivery_info, retries=self.request.retries)
    raise Reject("not for me", requeue=requeue)


@app.task(name="reject_once", bind=True)
def reject_once(self: Task) -> dict[str, Any]:
    if not self.request.delivery_info["redelivered"]:
        raise Reject("later", requeue=True)
    return {"retries": self.request.retries, "delivery": self.request.delivery_info["delivery"]}


@app.task(name="ignore")
def ignore() -> None:
    note("ran")
    raise Ignore("never mind")


@app.task(name="replace", bind=True)
def replace(self: Task, a: int, b: int) -> None:
    self.replace(add.s(a, b))
