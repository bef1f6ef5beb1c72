"""queues.yaml: every mistake is told with its line, its field, and what would be right."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from celeriac.spec.load import SpecError, load_queues, parse_queues

GOOD = """\
apiVersion: celeriac.dev/v1alpha1
kind: MessageQueue
metadata: {name: message-delivery}
spec:
  worker:      {image: "celeriac-messaging:dev", app: "celeriac_messaging.app:app", pool: Threads,
                concurrency: 10, softTimeoutSeconds: 50, timeoutSeconds: 60}
  retry:       {maxAttempts: 5, backoff: {initialSeconds: 2, multiplier: 2, maxSeconds: 32,
                jitterPercent: 20}}
  deadLetter:  {maxDeliveries: 5, retentionSeconds: 1209600}
  autoscaling: {mode: Native, minReplicas: 0, maxReplicas: 20, startWaitSeconds: 10}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_queues(dedent(text))
    return str(caught.value).splitlines()


def spec(lines: str) -> str:
    worker = "" if lines.startswith("worker:") else "worker: {app: a}"
    head = "apiVersion: celeriac.dev/v1alpha1\nkind: MessageQueue\nmetadata: {name: a}\nspec:\n"
    return f"{head}  {worker}\n  {lines}\n"


def test_the_design_s_own_example_is_read() -> None:
    (queue,) = parse_queues(GOOD)

    assert queue.queue_name == "message-delivery"
    assert queue.spec.worker.concurrency == 10
    assert queue.spec.autoscaling.max_replicas == 20


def test_many_documents_and_lists_are_read() -> None:
    other = GOOD.replace("message-delivery", "b")
    listed = "kind: List\napiVersion: v1\nitems:\n- " + "\n  ".join(
        GOOD.replace("message-delivery", "c").splitlines()
    )

    assert [it.name for it in parse_queues(f"{GOOD}---\n{other}---\n\n---\n{listed}")] == [
        "message-delivery",
        "b",
        "c",
    ]


def test_merge_keys_and_aliases_are_read() -> None:
    text = """\
        kind: List
        items:
        - &first
          apiVersion: celeriac.dev/v1alpha1
          kind: MessageQueue
          metadata: {name: a}
          spec: &spec {worker: {app: a}, paused: true}
        - <<: *first
          metadata: {name: b}
          spec: {<<: *spec, paused: false}
    """

    assert [it.spec.paused for it in parse_queues(dedent(text))] == [True, False]


def test_dates_and_numbers_in_text_fields_are_told_to_be_quoted() -> None:
    (found,) = problems(spec("queue: 2026"))

    assert found == 'queues.yaml:6: spec.queue: must be text, not 2026; put it in quotes: "2026"'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "retry: {maxAtempts: 5}",
            "spec.retry.maxAtempts: is not a field here; did you mean maxAttempts?",
        ),
        ("retry: {max_attempts: 5}", "did you mean maxAttempts?"),
        ("maxDeliveries: 5", "did you mean spec.deadLetter.maxDeliveries?"),
        ("limits: {foo: 5}", "known fields: maxMessageBytes, maxMessages"),
        (
            "retry: {maxAttempts: 2.0}",
            "spec.retry.maxAttempts: must be a whole number, not 2.0; write 2",
        ),
        ('retry: {maxAttempts: "2"}', "write 2 without quotes"),
        ("retry: {maxAttempts: 0}", "must be at least 1, not 0"),
        ("retry: {maxAttempts: 9999}", "must be at most 1000, not 9999"),
        ("retry: []", "spec.retry: must be a map, not a list"),
        ("retry:", "spec.retry: must be a map, not empty"),
        ("paused: 1", "spec.paused: must be true or false, not 1"),
        ("deletionPolicy: retain", "must be Retain or Purge, not 'retain'; did you mean Retain?"),
        ("autoscaling: {mode: Off}", "put the word in quotes"),
        (
            "autoscaling: {minReplicas: 9, maxReplicas: 2}",
            "spec.autoscaling: minReplicas must not be",
        ),
        ("schedules: [{name: a, task: t}]", "spec.schedules[0].cron: is required"),
        ("schedules: [{name: a, task: t, cron: daily}]", "such as 0 3 * * MON"),
        (f"queue: {'q' * 129}", "must have at most 128 characters, not 129"),
        (
            "worker: {app: a, resources: {limits: {cpu: 0.5}}}",
            'must be a Kubernetes quantity, such as 500m or 256Mi; put it in quotes: "0.5"',
        ),
        ("worker: {app: a, resources: {limits: {cpu: much}}}", "256Mi, not 'much'"),
        ('queue: ""', "must not be empty"),
    ],
)
def test_a_mistake_is_told(lines: str, told: str) -> None:
    (found,) = problems(spec(lines))

    assert told in found
    assert found.startswith("queues.yaml:6: ")


def test_all_mistakes_are_told_at_once_in_the_order_of_lines() -> None:
    found = problems(
        """\
        apiVersion: celeriac.dev/v1
        kind: MessageQueue
        metadata: {name: Shouting}
        spec:
          worker:
            app: "a b"
            concurency: 10
        """
    )

    assert [line.split(": ")[0:2] for line in found] == [
        ["queues.yaml:1", "apiVersion"],
        ["queues.yaml:3", "metadata.name"],
        ["queues.yaml:6", "spec.worker.app"],
        ["queues.yaml:7", "spec.worker.concurency"],
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "queues.yaml:1: must declare at least one MessageQueue"),
        ("a: [", "queues.yaml:1: is not YAML: "),
        ("- 1", "queues.yaml:1: must be a MessageQueue: a map with"),
        ("a: 1", "kind: must be MessageQueue and apiVersion celeriac.dev/v1alpha1"),
        ("kind: Deployment", "kind: must be MessageQueue, not 'Deployment'"),
        ("kind: List", "items must be a list"),
        ("a: &a {b: *a}", "nested too deeply, or an alias holds itself"),
        ("a: \x00", "is not YAML"),
        ("a: !!python/name:os.system 1", "is not YAML"),
    ],
)
def test_what_is_no_queue_is_told(text: str, told: str) -> None:
    assert told in problems(text)[0]


def test_a_key_given_twice_is_told() -> None:
    (found,) = problems(spec("limits: {maxMessages: 1, maxMessages: 2}"))

    assert found == (
        "queues.yaml:6: spec.limits.maxMessages: is given twice, first on line 6: remove one"
    )


def test_two_resources_cannot_share_a_name_or_a_queue() -> None:
    (same_name,) = problems(f"{GOOD}---\n{GOOD}")
    (same_queue,) = problems(
        GOOD
        + "---\n"
        + GOOD.replace("{name: message-delivery}", "{name: b}")
        + "  queue: message-delivery\n"
    )

    assert "metadata.name: 'message-delivery' is declared on line 1 already" in same_name
    assert "spec.queue: 'message-delivery' has the queue 'message-delivery' already" in same_queue


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none.yaml:0: cannot be read: no such file"):
        load_queues(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    with pytest.raises(SpecError, match="must be UTF-8"):
        load_queues(tmp_path / "latin.yaml")
