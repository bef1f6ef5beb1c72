"""The demo's own parts: its sample, its folder, and how strictly it judges itself."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from celeriac import Histogram
from celeriac.spec.load import load_queues
from celeriac_messaging import payloads
from celeriac_messaging.demo import expect, sample
from celeriac_messaging.demo.folder import DemoFolder, NotOurFolder
from celeriac_messaging.demo.platform import write_queues
from celeriac_messaging.demo.sample import Line
from celeriac_messaging.demo.sinks import Arrival, Journal
from celeriac_messaging.demo.view import View
from celeriac_messaging.metrics import QueueMetrics
from celeriac_messaging.payloads import SendMessage
from celeriac_messaging.routing import QUEUES, ROUTES


@pytest.fixture
def folder(tmp_path: Path) -> DemoFolder:
    return DemoFolder(tmp_path / "demo")


@pytest.fixture
def lines(folder: DemoFolder) -> list[Line]:
    return list(
        sample.read(
            web="http://127.0.0.1:9",
            device=lambda name: folder.browser(name).target(f"http://127.0.0.1:9/push/{name}"),
        )
    )


def test_the_sample_has_something_of_everything(lines: list[Line]) -> None:
    jobs = [line.job for line in lines if line.job is not None]
    assert 280 <= len(lines) <= 320
    assert {type(job) for job in jobs} == set(ROUTES)
    assert {job.urgency for job in jobs} == {"critical", "realtime", "normal", "bulk"}
    assert {line.delay > 0 for line in lines} == {True, False}
    bodies = [job.body for job in jobs if isinstance(job, SendMessage)]
    scripts = ("ї", "ع", "ह", "の", "您", "ß", "ã", "ł", "🚚")
    for letter in scripts:
        assert any(letter in body for body in bodies), letter
    assert min(map(len, bodies)) < 5
    assert max(map(len, bodies)) > 1_000


def test_only_one_line_is_wrong_and_it_says_why(lines: list[Line]) -> None:
    (refused,) = [line for line in lines if line.job is None]
    assert "recipient.email: must be an e-mail address" in refused.refusal


def test_no_two_jobs_of_the_sample_are_the_same(lines: list[Line]) -> None:
    counted = Counter(line.job.job_id for line in lines if line.job and line.job.job_id)
    assert [job_id for job_id, times in counted.items() if times > 1] == []


def test_deliveries_are_counted_by_channel() -> None:
    mailed = payloads.EmailRecipient(channel="email", email="a@example.org")
    hooked = payloads.WebhookRecipient(channel="webhook", url="https://example.org/")
    batch = payloads.BatchSend(
        tenant="t",
        batch_id="b",
        sender="s",
        body="x",
        recipients=[payloads.BatchRecipient(recipient=one) for one in (mailed, hooked, mailed)],
    )
    assert sample.delivered([batch]) == {"webhook": 1, "email": 2, "push": 0}


def test_a_folder_keeps_what_waiting_messages_depend_on(tmp_path: Path) -> None:
    first = DemoFolder(tmp_path / "demo")
    first.state.web_port = 4711
    auth = first.browser("amina-phone").auth
    first.save()
    second = DemoFolder(tmp_path / "demo")
    assert (first.resumed, second.resumed) == (False, True)
    assert second.state.web_port == 4711
    assert second.browser("amina-phone").auth == auth
    assert second.environment() == first.environment()
    assert (tmp_path / "demo" / "demo.json").stat().st_mode & 0o077 == 0


def test_a_finished_folder_begins_anew(tmp_path: Path) -> None:
    first = DemoFolder(tmp_path / "demo")
    (first.path / "data").mkdir()
    first.enter("finished")
    second = DemoFolder(tmp_path / "demo")
    assert not second.resumed
    assert second.state.secrets != first.state.secrets
    assert not (second.path / "data").exists()
    assert not DemoFolder(tmp_path / "demo", fresh=True).resumed


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(NotOurFolder, match="--data"):
        DemoFolder(tmp_path, fresh=True)
    assert (tmp_path / "thesis.txt").exists()


def test_the_demo_runs_the_applications_own_queues(tmp_path: Path) -> None:
    ours = load_queues(Path(payloads.__file__).parents[1] / "queues.yaml")
    write_queues(tmp_path / "queues.yaml")
    theirs = load_queues(tmp_path / "queues.yaml")
    assert [one.queue_name for one in theirs] == [one.queue_name for one in ours]
    assert {one.queue_name for one in ours} == set(QUEUES)
    short = {"drain_seconds": 10}
    assert [one.spec.worker for one in theirs] == [
        one.spec.worker.model_copy(update=short) for one in ours
    ]
    attempts = {one.queue_name: one.spec.retry.max_attempts for one in theirs}
    assert attempts == {
        queue: 5 if queue in ("message-delivery", "message-encryption") else 3 for queue in QUEUES
    }


def outcome(wanted: expect.Expected) -> tuple[dict[str, QueueMetrics], list[Arrival]]:
    """A demo in which everything came true."""
    zero: dict[str, Any] = dict.fromkeys(
        (field.name for field in dataclasses.fields(QueueMetrics)), 0
    )
    zero |= {"ready_by": {}, "discarded_by": {}, "workers": [], "paused": False}
    zero |= dict.fromkeys(("wait", "run"), Histogram((), (), 0))
    metrics = {}
    for queue in QUEUES:
        dead = wanted.dead_for_good.get(queue, 0)
        accepted = wanted.accepted[queue]
        fields = zero | {"accepted": accepted, "dead": dead, "done": accepted - dead}
        if queue == expect.DELIVERY:
            fields |= {"retried": 10, "redriven": wanted.broken}
        metrics[queue] = QueueMetrics(**fields | {"name": queue})
    arrivals = [Arrival(expect.FLAKY, "f", status) for status in (503, 503, 201)]
    arrivals += [Arrival("/hooks/a", f"{n}", 201) for n in range(wanted.taken["webhook"] - 1)]
    arrivals += [Arrival("a@example.org", f"{n}", 201) for n in range(wanted.taken["email"])]
    arrivals += [Arrival("/push/a", f"{n}", 201) for n in range(wanted.taken["push"])]
    return metrics, arrivals


def test_a_perfect_demo_has_no_complaints(lines: list[Line]) -> None:
    wanted = expect.expected(lines)
    assert wanted.refused == 1
    assert wanted.broken == 2
    assert wanted.total == len(lines) - 1 + 41 + 2
    assert expect.complaints(wanted, *outcome(wanted)) == []


@pytest.mark.parametrize("name", ["accepted", "done", "dead", "leased", "discarded"])
@pytest.mark.parametrize("queue", QUEUES)
def test_one_message_off_is_a_complaint(name: str, queue: str, lines: list[Line]) -> None:
    wanted = expect.expected(lines)
    metrics, arrivals = outcome(wanted)
    now = metrics[queue]
    metrics[queue] = dataclasses.replace(now, **{name: getattr(now, name) + 1})
    assert len(expect.broken_laws(metrics)) == 1
    found = expect.complaints(wanted, metrics, arrivals)
    assert found[0].startswith(f"{queue}: accepted")
    assert found[0].endswith("1 apart")


def test_recipients_are_asked_too(lines: list[Line]) -> None:
    wanted = expect.expected(lines)
    metrics, arrivals = outcome(wanted)
    twice = [*arrivals, arrivals[-1]]
    assert expect.complaints(wanted, metrics, twice) == ["effects taken twice: 1, expected 0"]
    lost = expect.complaints(wanted, metrics, arrivals[:-1])
    assert len(lost) == 1
    assert lost[0].startswith("push: taken by recipients")
    patient = expect.complaints(wanted, metrics, arrivals[1:])
    assert len(patient) == 1
    assert "northside-pharmacy" in patient[0]


def test_a_journal_survives_its_process(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j.jsonl")
    first.add(Arrival("/hooks/a", "1", 503, b"secret body", {"x": "y"}))
    first.add(Arrival("/hooks/a", "1", 201))
    first.add(Arrival("/hooks/a", "1", 201))
    second = Journal(tmp_path / "j.jsonl")
    assert [one.status for one in second.arrivals("/hooks/a")] == [503, 201, 201]
    assert len(second.taken_twice()) == 1
    assert "secret" not in (tmp_path / "j.jsonl").read_text()


def test_in_a_pipe_progress_is_plain_lines(lines: list[Line]) -> None:
    wanted = expect.expected(lines)
    metrics, _arrivals = outcome(wanted)
    out = io.StringIO()
    view = View(Console(file=out, highlight=False, soft_wrap=True))
    with view.progress(wanted.total) as show:
        show(metrics)
        show(metrics)
    assert out.getvalue().count("\n") == 1
    assert f"{wanted.total} of {wanted.total} finished" in out.getvalue()
    assert "\x1b" not in out.getvalue()
