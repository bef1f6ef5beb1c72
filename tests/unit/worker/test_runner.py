"""Attempts at messages under Celery's own tracer, with a result backend in memory: what each end leads to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.backends.cache import _DUMMY_CLIENT_CACHE
from celery.exceptions import Ignore, Reject, Retry
from celery.worker import state as worker_state

from celeriac.broker.capture import current as current_capture
from celeriac.broker.message import (
    DONE,
    DeadLetter,
    Discard,
    Message,
    NewMessage,
    Postpone,
    RetryAt,
    Settlement,
)
from celeriac.broker.signing import BadSignature, Keyring, SigningKeys
from celeriac.client.progress import report_progress
from celeriac.spec.policies import QueuePolicy
from celeriac.worker import notify
from celeriac.worker.decoder import Decoder
from celeriac.worker.runner import AttemptRunner
from tests.unit.worker.scripted import ScriptedQueue, heard, message

POLICY = QueuePolicy.model_validate(
    {
        "retry": {
            "maxAttempts": 3,
            "backoff": {"initialSeconds": 2, "multiplier": 2, "maxSeconds": 60, "jitterPercent": 0},
            "byError": [
                {"error": "KeyError", "action": "Discard"},
                {"error": "LookupError", "action": "DeadLetter"},
            ],
        },
        "deadLetter": {"maxDeliveries": 4},
    }
)


class Sink:
    """Where progress goes."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, int, str]] = []

    def report(self, done: int, total: int, note: str) -> None:
        self.reports.append((done, total, note))


UNKNOWN_LONG_AGO = b'{"reason":"unknown_task","endedMs":1000}\n'


class Scene:
    """An app whose one task does what the test says, and a runner of its messages."""

    def __init__(self, *, signing: SigningKeys | None = None) -> None:
        self.app = Celery(
            "running",
            broker="celeriac://localhost:1",
            backend="cache+memory://",
            set_as_current=False,
        )
        self.act: Callable[[Any], Any] = lambda task: None
        self.hooks: list[str] = []
        scene = self

        class Hooked(self.app.Task):  # type: ignore[misc,name-defined]
            def on_failure(self, *_: Any) -> None:
                scene.hooks.append("failure")

            def on_retry(self, *_: Any) -> None:
                scene.hooks.append("retry")

            def on_success(self, *_: Any) -> None:
                scene.hooks.append("success")

            def after_return(self, state: str, *_: Any) -> None:
                scene.hooks.append(f"after {state}")

        @self.app.task(name="t", bind=True, base=Hooked, shared=False, max_retries=2)
        def acts(task: Any, *args: Any) -> Any:
            return scene.act(task)

        @self.app.task(name="native", shared=False)
        async def native() -> str:
            await asyncio.sleep(0)
            return "awaited"

        self.app.finalize()
        self.queue = ScriptedQueue()
        self.queue.signing = signing
        self.sink = Sink()
        self.decoder = Decoder(self.app, queue=self.queue, hostname="w")
        self.runner = self.make_runner()

    def make_runner(self) -> AttemptRunner:
        return AttemptRunner(
            app=self.app,
            queue=self.queue,
            worker="w",
            decoder=self.decoder,
            policy=lambda: POLICY,
            progress_sink=lambda it: self.sink,
        )

    def run(self, act: Callable[[Any], Any], **changes: Any) -> Settlement:
        self.act = act
        return self.runner.run(message(**{"head": head(ignore_result=False), **changes}))

    def state(self, id_: str = "id-1") -> Any:
        """What the result backend says."""
        return self.app.AsyncResult(id_).state


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tasks and results of other tests' apps are shared with every app in this process.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    _DUMMY_CLIENT_CACHE.clear()


@pytest.fixture
def scene(alone: None) -> Scene:
    return Scene()


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any]]]:
    with heard("task_prerun", "task_failure", "task_retry", "task_revoked", "task_postrun") as said:
        yield said


def head(**headers: Any) -> bytes:
    return json.dumps({"h": headers}).encode()


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(task: Any) -> None:
        raise error

    return act


# --- it ends well ---------------------------------------------------------------------------------------


def test_what_returns_is_done(scene: Scene) -> None:
    settlement = scene.run(lambda task: 42)
    assert settlement == Settlement(
        message(head=head(ignore_result=False)), DONE, settlement.run_ms
    )
    assert settlement.run_ms is not None and 0 <= settlement.run_ms < 5000
    assert scene.app.AsyncResult("id-1").result == 42
    assert scene.hooks == ["success", "after SUCCESS"]


def test_nothing_is_left_for_the_garbage_collector(scene: Scene) -> None:
    attempts: list[Any] = []
    scene.run(lambda task: attempts.append(task.request.celeriac))
    assert attempts[0].call.request == {}


def test_the_task_sees_its_message(scene: Scene) -> None:
    seen: list[Any] = []
    scene.run(lambda task: seen.append((task.request.id, task.request.retries)), attempt=1)
    assert seen == [("id-1", 1)]


def test_a_coroutine_is_run_to_its_end(scene: Scene) -> None:
    settlement = scene.runner.run(message(task="native", head=head(ignore_result=False)))
    assert settlement.outcome == DONE
    assert scene.app.AsyncResult("id-1").result == "awaited"


def test_progress_goes_to_the_message_that_runs(scene: Scene) -> None:
    scene.run(lambda task: report_progress(1, 2, "half"))
    report_progress(2, 2, "nobody runs any more")
    assert scene.sink.reports == [(1, 2, "half")]


def test_ignored_is_done_and_stores_nothing(scene: Scene) -> None:
    assert scene.run(raising(Ignore())).outcome == DONE
    assert scene.state() == "PENDING"


# --- it fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "delay_s"), [(0, 2), (1, 4)])
def test_a_failure_runs_again_after_the_policys_wait(
    scene: Scene, told: list[tuple[str, Any]], attempt: int, delay_s: int
) -> None:
    outcome = scene.run(raising(ValueError("boom")), attempt=attempt).outcome
    assert isinstance(outcome, RetryAt)
    assert (outcome.delay_ms, outcome.head, outcome.body) == (delay_s * 1000, None, None)
    failure = outcome.failure
    assert failure is not None
    assert (failure.reason, failure.error, failure.message) == ("failed", "ValueError", "boom")
    assert failure.worker == "w"
    assert 0 < failure.started_ms <= failure.ended_ms
    assert scene.state() == "RETRY"
    assert scene.hooks == ["retry"]
    assert [name for name, _ in told] == ["task_prerun", "task_retry", "task_postrun"]


def test_the_last_failure_is_a_dead_letter(scene: Scene, told: list[tuple[str, Any]]) -> None:
    settlement = scene.run(raising(ValueError("boom")), attempt=2)
    outcome = settlement.outcome
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason == "attempts_exhausted"
    assert outcome.failure is not None and outcome.failure.error == "ValueError"
    assert settlement.run_ms is not None
    assert scene.state() == "FAILURE"
    assert sorted(scene.hooks) == ["after FAILURE", "failure"]
    assert [name for name, _ in told] == ["task_prerun", "task_failure", "task_postrun"]


@pytest.mark.parametrize(("attempt", "again"), [(3, True), (4, False)])
def test_a_messages_own_limit_comes_before_the_queues(
    scene: Scene, attempt: int, again: bool
) -> None:
    own = head(max_attempts=5)
    outcome = scene.run(raising(ValueError()), head=own, attempt=attempt).outcome
    assert isinstance(outcome, RetryAt) is again


def test_rules_for_errors(scene: Scene) -> None:
    assert scene.run(raising(KeyError("k"))).outcome == Discard("failed")
    outcome = scene.run(raising(IndexError("i"))).outcome
    assert isinstance(outcome, DeadLetter) and outcome.reason == "error_rule"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize(("attempt", "state"), [(0, "RETRY"), (2, "FAILURE")])
def test_what_would_end_a_process_ends_an_attempt(
    scene: Scene, error: BaseException, attempt: int, state: str
) -> None:
    outcome = scene.run(raising(error), attempt=attempt).outcome
    assert isinstance(outcome, RetryAt) is (state == "RETRY")
    assert isinstance(outcome, DeadLetter) is (state == "FAILURE")
    assert scene.state() == state
    if state == "FAILURE":
        assert isinstance(scene.app.AsyncResult("id-1").result, Exception), (
            "which backends can keep"
        )


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize(
    ("step", "act"),
    [("mark_as_done", lambda task: 42), ("mark_as_retry", raising(ValueError("boom")))],
)
def test_a_result_that_cannot_be_stored_is_a_failure_of_the_attempt(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[Any], Any]
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("results are away")

    monkeypatch.setattr(scene.app.backend, step, away)
    outcome = scene.run(act).outcome
    assert isinstance(outcome, RetryAt)
    assert outcome.failure is not None and outcome.failure.error == "ConnectionError"


# --- it is rejected -------------------------------------------------------------------------------------


def test_rejected_for_good_is_a_dead_letter(scene: Scene, told: list[tuple[str, Any]]) -> None:
    outcome = scene.run(raising(Reject(ValueError("no good"), requeue=False))).outcome
    assert isinstance(outcome, DeadLetter)
    failure = outcome.failure
    assert failure is not None
    assert (outcome.reason, failure.reason) == ("rejected", "rejected")
    assert (failure.error, failure.message) == ("ValueError", "no good")
    assert scene.state() == "FAILURE"
    assert "task_failure" in [name for name, _ in told]


def test_rejected_with_requeue_runs_again_at_once_and_is_no_attempt(scene: Scene) -> None:
    settlement = scene.run(raising(Reject("not now", requeue=True)), delivery=3)
    outcome = settlement.outcome
    assert isinstance(outcome, RetryAt)
    assert (outcome.delay_ms, settlement.run_ms) == (0, None)
    assert scene.state() == "PENDING"


@pytest.mark.parametrize("delivery", [4, 5])
def test_requeued_for_ever_is_a_poison(scene: Scene, delivery: int) -> None:
    rejects = raising(Reject("not now", requeue=True))
    settlement = scene.run(rejects, delivery=delivery, last=True)  # as the broker said of it
    assert isinstance(settlement.outcome, DeadLetter)
    assert settlement.outcome.reason == "delivery_limit"
    assert scene.state() == "FAILURE"


# --- it asks for a retry --------------------------------------------------------------------------------


def test_a_retry_is_settled_with_its_message(scene: Scene) -> None:
    settlement = scene.run(lambda task: task.retry(countdown=7, exc=ValueError("later")))
    outcome = settlement.outcome
    assert isinstance(outcome, RetryAt)
    assert outcome.delay_ms == pytest.approx(7000, abs=200)
    assert outcome.body is not None and json.loads(outcome.body)[:2] == [[], {}]
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.error) == ("retry_requested", "ValueError")
    assert settlement.run_ms is not None
    assert scene.state() == "RETRY"


def test_what_is_sent_after_a_retry_is_published_as_ever(scene: Scene) -> None:
    scene.run(lambda task: task.retry(throw=False))
    assert current_capture.get() is None


def test_a_retry_without_a_reason_is_one_itself(scene: Scene) -> None:
    outcome = scene.run(lambda task: task.retry()).outcome
    assert isinstance(outcome, RetryAt) and outcome.failure is not None
    assert outcome.failure.error == "Retry"


def test_a_retry_that_went_to_another_queue_leaves_nothing_here(scene: Scene) -> None:
    assert scene.run(raising(Retry("elsewhere"))).outcome == DONE


@pytest.mark.parametrize(("before", "attempt"), [(0, 0), (0, 1), (1, 0)])
def test_the_queue_counts_attempts_and_the_head_only_those_before_it(
    scene: Scene, before: int, attempt: int
) -> None:
    own = head(retries=before) if before else head()
    outcome = scene.run(lambda task: task.retry(), head=own, attempt=attempt).outcome
    assert isinstance(outcome, RetryAt) and outcome.head is not None
    headers = json.loads(outcome.head).get("h", {}) if outcome.head else {}
    assert headers.get("retries", 0) == before


def test_a_signed_queue_signs_what_a_retry_changes() -> None:
    keys = SigningKeys(Keyring({"k": bytes(32)}))
    scene = Scene(signing=keys)
    it = message()
    place = scene.queue.keys.base
    own = keys.sign(place, it.id, it.task, head(), it.body)
    outcome = scene.run(lambda task: task.retry(args=(1,), kwargs={}), head=own).outcome
    assert isinstance(outcome, RetryAt)
    assert outcome.head is not None and outcome.body is not None
    assert outcome.body != it.body
    keys.verify(place, it.id, it.task, outcome.head, outcome.body)
    with pytest.raises(BadSignature):
        keys.verify(place, it.id, it.task, outcome.head, it.body)


def test_a_forged_message_changes_nobodys_result() -> None:
    scene = Scene(signing=SigningKeys(Keyring({"k": bytes(32)})))
    outcome = scene.runner.run(message(head=head(ignore_result=False))).outcome
    assert isinstance(outcome, DeadLetter) and outcome.reason == "bad_signature"
    assert scene.state() == "PENDING"


def test_a_retry_beyond_the_tasks_own_limit_is_a_dead_letter(scene: Scene) -> None:
    outcome = scene.run(lambda task: task.retry(exc=ValueError("enough")), attempt=2).outcome
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason == "attempts_exhausted"
    outcome = scene.run(lambda task: task.retry(max_retries=0, exc=OSError("enough"))).outcome
    assert isinstance(outcome, DeadLetter), "the user's own limit comes before the queue's"


def test_a_retry_that_does_not_throw_counts_whatever_comes_after(scene: Scene) -> None:
    def returns(task: Any) -> int:
        task.retry(countdown=7, throw=False)
        return 1

    def fails(task: Any) -> None:
        task.retry(countdown=7, throw=False)
        raise ValueError("after all")

    def ignores(task: Any) -> None:
        task.retry(countdown=7, throw=False)
        raise Ignore

    for act in (returns, fails, ignores):
        outcome = scene.run(act).outcome
        assert isinstance(outcome, RetryAt)
        assert outcome.delay_ms == pytest.approx(7000, abs=200)
        assert outcome.body is not None


# --- it never runs --------------------------------------------------------------------------------------


def test_what_cannot_be_opened_is_a_dead_letter_which_ran_not(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    settlement = scene.runner.run(
        message(task="unknown", head=head(ignore_result=False), history=UNKNOWN_LONG_AGO)
    )
    outcome = settlement.outcome
    assert isinstance(outcome, DeadLetter)
    assert (outcome.reason, settlement.run_ms) == ("unknown_task", None)
    failure = outcome.failure
    assert failure is not None
    assert (failure.reason, failure.error, failure.worker) == ("unknown_task", "NotRegistered", "w")
    assert failure.started_ms == failure.ended_ms > 0
    assert scene.state() == "FAILURE"
    assert "unknown[id-1] is undeliverable" in caplog.text


def test_a_task_that_is_unknown_here_is_left_to_newer_workers(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    settlement = scene.runner.run(message(task="unknown", head=head(ignore_result=False)))
    outcome = settlement.outcome
    assert isinstance(outcome, Postpone)
    assert (outcome.delay_ms, settlement.run_ms) == (1000, None)
    assert "unknown[id-1] is left to other workers for 300 s" in caplog.text
    assert scene.state() == "PENDING"

    assert outcome.failure is not None
    line = outcome.failure.line(attempt=0, delivery=1)
    again = scene.runner.run(message(task="unknown", history=line + b"\n")).outcome
    assert again == Postpone(delay_ms=1000), "its history says so once"


def test_a_task_over_its_rate_limit_is_handed_back_until_its_time() -> None:
    scene = Scene()
    scene.app.tasks["t"].rate_limit = "2/s"
    scene.runner = scene.make_runner()
    ran: list[str] = []
    first, second = (scene.run(lambda task: ran.append(task.request.id)) for _ in range(2))
    assert (first.outcome, ran) == (DONE, ["id-1"])
    assert isinstance(second.outcome, Postpone)
    assert (0 < second.outcome.delay_ms <= 500, second.run_ms) == (True, None)
    history = b'{"reason":"rate_limited"}\n'
    assert scene.run(lambda task: None, history=history).outcome == DONE


def test_who_does_not_want_to_wait_for_newer_workers_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = QueuePolicy.model_validate({"deadLetter": {"unknownTaskSeconds": 0}})
    monkeypatch.setattr(scene.runner, "policy", lambda: policy)
    assert isinstance(scene.runner.run(message(task="unknown")).outcome, DeadLetter)


def test_nobody_hears_of_an_undeliverable_message_whose_result_nobody_wants(scene: Scene) -> None:
    scene.runner.run(
        message(task="unknown", head=head(ignore_result=True), history=UNKNOWN_LONG_AGO)
    )
    assert scene.state() == "PENDING"
    scene.runner.run(message(body=b"nonsense", head=b"nonsense"))
    assert scene.state() == "FAILURE", "what its head says cannot be read"


@pytest.fixture
def revoked() -> Iterator[None]:
    worker_state.revoked.add("id-1")
    yield
    worker_state.revoked.discard("id-1")


@pytest.mark.usefixtures("revoked")
def test_what_was_revoked_does_not_run(scene: Scene, told: list[tuple[str, Any]]) -> None:
    ran: list[int] = []
    settlement = scene.run(lambda task: ran.append(1))
    assert settlement.outcome == Discard("revoked")
    assert (ran, settlement.run_ms) == ([], None)
    assert scene.state() == "REVOKED"
    ((name, words),) = told
    assert (name, words["terminated"], words["expired"]) == ("task_revoked", False, False)


# --- what only the queue saw ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "signal"),
    [
        (Discard("revoked"), "REVOKED", "task_revoked"),
        (DeadLetter(reason="delivery_limit"), "FAILURE", "task_failure"),
        (RetryAt(delay_ms=3000), "RETRY", "task_retry"),
    ],
)
def test_what_became_of_a_message_whose_process_died_is_recorded(
    scene: Scene, told: list[tuple[str, Any]], outcome: Any, state: str, signal: str
) -> None:
    it = message(head=head(ignore_result=False))
    notify.lost(scene.decoder, it, outcome, RuntimeError("died"))
    assert scene.state() == state
    ((name, words),) = told
    assert name == signal
    if state == "REVOKED":
        assert words["terminated"] is True
    elif state == "FAILURE":
        assert scene.hooks == ["failure", "after FAILURE"]
    else:
        assert scene.hooks == ["retry"]


def test_error_callbacks_hear_of_a_message_whose_process_died_for_the_last_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(scene.app.backend, "_call_task_errbacks", lambda *it: called.append(it[1]))
    it = message(body=b'[[], {}, {"errbacks": [{"task": "t"}]}]')
    error = RuntimeError("died")
    notify.lost(scene.decoder, it, RetryAt(delay_ms=1), error)
    assert called == []
    notify.lost(scene.decoder, it, DeadLetter(reason="delivery_limit"), error)
    assert called == [error]


@pytest.mark.parametrize(("reason", "expired"), [("expired", True), ("cancelled", False)])
def test_what_was_dropped_on_the_way_is_recorded_as_revoked(
    scene: Scene, told: list[tuple[str, Any]], reason: str, expired: bool
) -> None:
    notify.dropped(scene.decoder, message(head=head(ignore_result=False)), reason)
    assert scene.state() == "REVOKED"
    ((name, words),) = told
    assert (name, words["expired"], words["terminated"]) == ("task_revoked", expired, False)


def test_what_cannot_be_recorded_is_told_and_harms_nobody(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("results are away")

    monkeypatch.setattr(scene.app.backend, "mark_as_revoked", away)
    notify.dropped(scene.decoder, message(), "expired")
    assert "t[id-1]: its end was not recorded" in caplog.text
    notify.dropped(scene.decoder, message(task="unknown"), "expired")
    notify.lost(scene.decoder, message(task="unknown"), Discard("x"), RuntimeError())


# --- the runner itself ----------------------------------------------------------------------------------


def test_a_task_is_prepared_once(scene: Scene) -> None:
    scene.run(lambda task: 1)
    prepared = scene.app.tasks["t"].retry
    scene.run(lambda task: 2)
    assert scene.app.tasks["t"].retry is prepared


def test_what_a_task_sends_besides_is_not_taken_for_its_retry(scene: Scene) -> None:
    offered: list[bool] = []

    def act(task: Any) -> None:
        attempt = task.request.celeriac
        new = NewMessage(id="id-1", task="t", body=b"", head=head(retries=1))
        offered.append(attempt.offer("elsewhere", new))
        offered.append(attempt.offer("q", NewMessage(id="other", task="t", body=b"")))
        assert attempt.captured is None
        offered.append(attempt.offer("q", new))

    outcome = scene.run(act).outcome
    assert offered == [False, False, True]
    assert isinstance(outcome, RetryAt)


def test_logging_of_a_success_is_celerys(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "celery.app.trace")
    scene.run(lambda task: None)
    assert "Task t[id-1] succeeded" in caplog.text


def test_a_message_is_what_the_settlement_is_about(scene: Scene) -> None:
    it: Message = message(7, head=head())
    assert scene.runner.run(it).message is it


def test_a_hook_may_reject_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    task = scene.app.tasks["t"]

    def after_return(*_: Any) -> None:
        raise Reject("no", requeue=False)

    monkeypatch.setattr(type(task), "after_return", after_return)
    outcome = scene.run(lambda task: 1).outcome
    assert isinstance(outcome, DeadLetter) and outcome.reason == "rejected"
