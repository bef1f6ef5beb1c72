"""Payloads: what is refused, with which words; identity; versions."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from celeriac_messaging.errors import InvalidPayload, NewerPayload, PermanentError, TransientError
from celeriac_messaging.payloads import (
    BatchSend,
    Cleanup,
    DeliveryConfirmation,
    Encryption,
    Indexing,
    Notification,
    Payload,
    SendMessage,
    load,
)

MESSAGE: dict[str, Any] = {
    "version": 2,
    "tenant": "riverside",
    "message_id": "m-1",
    "sender": "Dr. Оксана Коваль",
    "recipient": {"channel": "webhook", "url": "https://hooks.example.org/in"},
    "body": "Ваш запис підтверджено 🙂",
}
BATCH: dict[str, Any] = {
    "tenant": "riverside",
    "batch_id": "b-1",
    "sender": "Clinic",
    "subject": "For $name",
    "body": "Dear $name, the fee is $$20.",
    "recipients": [
        {
            "recipient": {"channel": "email", "email": "amina@example.org"},
            "variables": {"name": "أمينة"},
        }
    ],
}


def push(**changes: Any) -> dict[str, Any]:
    target = {
        "channel": "push",
        "endpoint": "https://push.example.org/x",
        "p256dh": urlsafe_b64encode(b"\x04" + b"\x11" * 64).decode(),
        "auth": urlsafe_b64encode(b"\x22" * 16).decode().rstrip("="),
    }
    return {
        "tenant": "riverside",
        "notification_id": "n-1",
        "target": target,
        "title": "नमस्ते",
        "body": "x",
        **changes,
    }


def test_a_payload_survives_its_own_wire_form() -> None:
    at = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    jobs: list[Payload] = [
        load(SendMessage, MESSAGE),
        load(BatchSend, BATCH),
        load(Notification, push()),
        DeliveryConfirmation.model_validate(
            {**without(MESSAGE, "version", "body", "sender"), "state": "read", "at": at}
        ),
        Encryption(tenant="t", message_id="m", operation="seal", text="秘密"),
        Indexing(tenant="t", message_id="m", text="こんにちは", revision=3),
        Cleanup(tenant="t", what=["effects"], older_than_days=30),
    ]
    for job in jobs:
        wire = job.wire()
        assert wire["version"] == job.VERSION
        assert load(type(job), wire) == job


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"body": ""}, "SendMessage.body: string should have at least 1 character"),
        ({"body": "x" * 65_537}, "SendMessage.body: string should have at most 65536"),
        ({"body": "a\x00b"}, "SendMessage.body: must not hold control characters"),
        ({"subject": "Hi\nBcc: all@example.org"}, "SendMessage.subject: must be one line"),
        ({"sender": "a\u2028b"}, "SendMessage.sender: must be one line"),
        ({"tenant": "River Side"}, "SendMessage.tenant: must be lower-case letters, digits and"),
        ({"tenant": "riverside\n"}, "SendMessage.tenant: must be lower-case letters"),
        ({"message_id": "a b"}, "SendMessage.message_id: must be letters, digits and . _ : -"),
        ({"message_id": "\u0661"}, "SendMessage.message_id: must be letters"),
        ({"urgency": "asap"}, "'critical', 'realtime', 'normal' or 'bulk'"),
        ({"colour": "red"}, "SendMessage.colour: is not a field of this payload"),
        ({"recipient": {"channel": "fax"}}, "SendMessage.recipient.channel: must be one of"),
        ({"recipient": {}}, "SendMessage.recipient.channel: is required"),
        ({"version": "2"}, "SendMessage.version: must be a number from 1 to 2"),
        ({"version": 0}, "SendMessage.version: must be a number from 1 to 2"),
    ],
)
def test_an_error_names_the_field_and_what_is_right(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        load(SendMessage, MESSAGE | change)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org",
        "https://",
        "https:///path",
        "/inbox",
        "https://user:secret@example.org/",
        "https://example.org/a b",
        "https://example.org:99999/",
        "https://exämple.org/",
        "https://example.org\\@evil.example/",
        "https://example.org/" + "x" * 2_048,
    ],
)
def test_web_addresses_are_checked(url: str) -> None:
    with pytest.raises(InvalidPayload, match=r"recipient\.url"):
        load(SendMessage, MESSAGE | {"recipient": {"channel": "webhook", "url": url}})


@pytest.mark.parametrize("email", ["amina", "amina@", "a@b@example.org", "a\n@example.org", "@x.y"])
def test_mail_addresses_are_checked(email: str) -> None:
    with pytest.raises(InvalidPayload, match=r"recipient\.email: must be an e-mail address"):
        load(SendMessage, MESSAGE | {"recipient": {"channel": "email", "email": email}})


def test_mail_addresses_of_any_script_are_fine() -> None:
    to = {"channel": "email", "email": "оксана@Пошта.example"}
    job = load(SendMessage, MESSAGE | {"recipient": to})
    assert job.recipient.key == "email:оксана@пошта.example"


def test_an_error_never_repeats_the_value() -> None:
    secret = "s3cr3t-" * 20_000
    wrong = {"body": secret, "sender": secret, "recipient": {"channel": "email", "email": secret}}
    with pytest.raises(InvalidPayload) as refusal:
        load(SendMessage, MESSAGE | wrong)
    assert "s3cr3t" not in str(refusal.value)
    with pytest.raises(ValidationError) as raised:
        SendMessage.model_validate(MESSAGE | wrong)
    assert "s3cr3t" not in str(raised.value)


def test_many_errors_are_cut_short() -> None:
    with pytest.raises(InvalidPayload) as refusal:
        load(SendMessage, {f"field{number}": 1 for number in range(50)})
    assert str(refusal.value).endswith("more")
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("raw", [None, [], "text", 7])
def test_what_is_no_object_is_refused(raw: object) -> None:
    with pytest.raises(InvalidPayload, match="must be an object"):
        load(SendMessage, raw)


def test_version_1_is_lifted() -> None:
    old = {"version": 1, "tenant": "t", "message_id": "m", "sender": "s", "text": "olá"}
    mailed = load(SendMessage, old | {"to": "joao@example.org"})
    hooked = load(SendMessage, old | {"to": "https://hooks.example.org/"})
    assert (mailed.recipient.key, mailed.body) == ("email:joao@example.org", "olá")
    assert hooked.recipient.key == "webhook:https://hooks.example.org/"
    with pytest.raises(InvalidPayload, match="recipient: is required"):
        load(SendMessage, old)


def test_lifting_leaves_the_callers_document_alone() -> None:
    old = {
        "version": 1,
        "tenant": "t",
        "message_id": "m",
        "sender": "s",
        "text": "x",
        "to": "a@b.c",
    }
    before = dict(old)
    load(SendMessage, old)
    assert old == before


def test_a_newer_version_waits_for_a_newer_worker() -> None:
    with pytest.raises(NewerPayload, match="3 is newer than this worker's 2"):
        load(SendMessage, MESSAGE | {"version": 3, "whatever": True})
    assert issubclass(NewerPayload, TransientError)
    assert issubclass(InvalidPayload, PermanentError)


def test_the_same_job_has_the_same_id_in_every_process() -> None:
    job = load(SendMessage, MESSAGE)
    assert job.job_id == "729512fc-16e2-54d3-96b4-b9b1ffd9ef0f"
    assert job.job_id == load(SendMessage, MESSAGE | {"body": "corrected"}).job_id


def test_different_jobs_have_different_ids() -> None:
    other = {"channel": "email", "email": "a@example.org"}
    ids = {
        load(SendMessage, MESSAGE | change).job_id
        for change in ({}, {"tenant": "b"}, {"message_id": "m-2"}, {"recipient": other})
    }
    assert len(ids) == 4
    assert load(Notification, push(notification_id="m-1")).job_id not in ids


def test_an_idempotency_key_replaces_the_identity() -> None:
    key = {"idempotency_key": "order-7"}
    one = load(SendMessage, MESSAGE | key)
    two = load(SendMessage, MESSAGE | key | {"message_id": "m-2"})
    assert one.job_id == two.job_id != load(SendMessage, MESSAGE).job_id


def test_a_cleanup_is_new_every_time() -> None:
    assert Cleanup(tenant="t", what=["effects"], older_than_days=1).job_id is None


def test_a_push_must_fit_one_record() -> None:
    load(Notification, push(body="界" * 1_200))
    with pytest.raises(InvalidPayload, match="must not exceed 3900 bytes"):
        load(Notification, push(body="界" * 1_300))


@pytest.mark.parametrize(
    ("field", "value"),
    [("p256dh", "AAAA"), ("p256dh", "!"), ("auth", "AAAA"), ("ttl_seconds", -1)],
)
def test_push_subscriptions_are_checked(field: str, value: object) -> None:
    document = push()
    document["target"][field] = value
    with pytest.raises(InvalidPayload, match=rf"target\.{field}"):
        load(Notification, document)


def test_a_batch_fills_in_its_text() -> None:
    message = load(BatchSend, BATCH).message_for(0)
    assert message.body == "Dear أمينة, the fee is $20."
    assert message.subject == "For أمينة"
    assert message.message_id == "b-1:0"
    assert message.urgency == "bulk"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"body": "Dear $firstname"}, "recipients[0].variables lacks firstname"),
        ({"body": "only 5 $"}, "a literal $ in subject or body must be written $$"),
        ({"body": "$name" * 13_000}, "recipients[0].body: string should have at most 65536"),
        ({"recipients": []}, "BatchSend.recipients: list should have at least 1 item"),
    ],
)
def test_a_batch_is_checked_as_a_whole(change: dict[str, Any], words: str) -> None:
    recipient = BATCH["recipients"][0] | {"variables": {"name": "longname"}}
    with pytest.raises(InvalidPayload) as refusal:
        load(BatchSend, BATCH | {"recipients": [recipient]} | change)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Encryption, {"operation": "seal"}),
        (Encryption, {"operation": "seal", "text": "x", "key_id": "k"}),
        (Encryption, {"operation": "rewrap"}),
        (Encryption, {"operation": "rewrap", "key_id": "k", "text": "x"}),
        (Indexing, {"operation": "put"}),
        (Indexing, {"operation": "remove", "text": "x"}),
    ],
)
def test_fields_must_match_the_operation(kind: type[Payload], fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match="takes"):
        load(kind, {"tenant": "t", "message_id": "m", **fields})


def test_a_time_needs_a_zone() -> None:
    document = {**without(MESSAGE, "version", "body", "sender"), "state": "read"}
    with pytest.raises(InvalidPayload, match=r"\.at: input should have timezone info"):
        load(DeliveryConfirmation, document | {"at": "2026-05-04T12:00:00"})
