"""The payloads of the seven job types, as they travel: camel-free, flat, versioned, closed.

Every payload knows its *identity*: the parts that make it the same job when it is sent twice. From
it follow the job's id, the broker's dedup key, and the key that every side effect carries, so that
neither an impatient producer nor a redelivery does anything twice.
"""

from __future__ import annotations

import json
import uuid
from string import Template
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from celeriac_messaging.payloads.explain import explain
from celeriac_messaging.payloads.fields import (
    BatchId,
    Body,
    Email,
    Id,
    Name,
    PushPublicKey,
    PushSecret,
    ShortBody,
    Subject,
    Tenant,
    Url,
    Variable,
    VariableName,
)

Urgency = Literal["critical", "realtime", "normal", "bulk"]
DeliveryState = Literal["sent", "bounced", "delivered", "read"]

_JOB_IDS = uuid.UUID("6f1f4ba4-7f0c-5d0e-9f8e-2a8f5f0c7a11")
PUSH_PLAINTEXT_BYTES = 3_900
"""What fits one Web Push record (RFC 8291: 4096 bytes, less header, tag and delimiter)."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Payload(_Closed):
    """What all payloads share. `urgency` picks the priority; `idempotency_key` the identity."""

    VERSION: ClassVar[int] = 1

    tenant: Tenant
    urgency: Urgency = "normal"
    idempotency_key: Id | None = None

    def identity(self) -> tuple[object, ...] | None:
        """The parts that make this job the same job; None when every sending is a new one."""
        raise NotImplementedError

    @property
    def job_id(self) -> str | None:
        """The job's id, always the same for the same identity; None when there is none."""
        parts = (self.idempotency_key,) if self.idempotency_key else self.identity()
        if parts is None:
            return None
        name = json.dumps([type(self).__name__, self.tenant, *parts], ensure_ascii=False)
        return str(uuid.uuid5(_JOB_IDS, name))

    def wire(self) -> dict[str, Any]:
        """The payload as JSON types, defaults left out; `version` is always there."""
        return {"version": self.VERSION, **self.model_dump(mode="json", exclude_defaults=True)}


class WebhookRecipient(_Closed):
    """An HTTP endpoint that takes signed POSTs (Standard Webhooks)."""

    channel: Literal["webhook"]
    url: Url

    @property
    def key(self) -> str:
        """One string that stands for this recipient."""
        return f"webhook:{self.url}"


class EmailRecipient(_Closed):
    """A mailbox."""

    channel: Literal["email"]
    email: Email

    @property
    def key(self) -> str:
        """One string that stands for this recipient."""
        return f"email:{self.email}"


Recipient = Annotated[WebhookRecipient | EmailRecipient, Field(discriminator="channel")]


class SendMessage(Payload):
    """Deliver one message to one recipient."""

    VERSION = 2

    version: Literal[2] = 2
    message_id: Id
    sender: Name
    recipient: Recipient
    subject: Subject | None = None
    body: Body

    def identity(self) -> tuple[object, ...]:
        return (self.message_id, self.recipient.key)


class DeliveryConfirmation(Payload):
    """The recipient's side tells what became of a message."""

    version: Literal[1] = 1
    message_id: Id
    recipient: Recipient
    state: DeliveryState
    at: AwareDatetime

    def identity(self) -> tuple[object, ...]:
        return (self.message_id, self.recipient.key, self.state)


class PushTarget(_Closed):
    """A browser's push subscription, as `PushSubscription.toJSON()` gives it."""

    channel: Literal["push"]
    endpoint: Url
    p256dh: PushPublicKey
    auth: PushSecret
    ttl_seconds: int = Field(default=86_400, ge=0, le=2_419_200)


class EmailTarget(_Closed):
    """A mailbox that takes notifications."""

    channel: Literal["email"]
    email: Email


class Notification(Payload):
    """Tell one person that something happened, by push or by e-mail."""

    version: Literal[1] = 1
    notification_id: Id
    target: Annotated[PushTarget | EmailTarget, Field(discriminator="channel")]
    title: Subject
    body: ShortBody
    link: Url | None = None

    def identity(self) -> tuple[object, ...]:
        return (self.notification_id,)

    def push_document(self) -> bytes:
        """What the browser's service worker receives, as JSON."""
        fields = {"id": self.notification_id, "title": self.title, "body": self.body}
        if self.link:
            fields["link"] = self.link
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @model_validator(mode="after")
    def _fits_a_push(self) -> Self:
        if self.target.channel == "push" and len(self.push_document()) > PUSH_PLAINTEXT_BYTES:
            raise ValueError(
                f"title, body and link together must not exceed {PUSH_PLAINTEXT_BYTES} bytes"
                " of UTF-8 in a push"
            )
        return self


class Encryption(Payload):
    """Seal a message's text at rest, or move a sealed one under another key."""

    version: Literal[1] = 1
    message_id: Id
    operation: Literal["seal", "rewrap"]
    text: Body | None = None
    key_id: Id | None = None

    def identity(self) -> tuple[object, ...]:
        return (self.message_id, self.operation, self.key_id)

    @model_validator(mode="after")
    def _fields_match_operation(self) -> Self:
        if self.operation == "seal" and (self.text is None or self.key_id is not None):
            raise ValueError("seal takes text and no key_id (the current key is used)")
        if self.operation == "rewrap" and (self.key_id is None or self.text is not None):
            raise ValueError("rewrap takes key_id, the key to move to, and no text")
        return self


class Indexing(Payload):
    """Make a message findable, or take it out of the index; the highest revision wins."""

    version: Literal[1] = 1
    message_id: Id
    operation: Literal["put", "remove"] = "put"
    revision: int = Field(default=0, ge=0, le=2**53 - 1)
    text: Body | None = None

    def identity(self) -> tuple[object, ...]:
        return (self.message_id, self.operation, self.revision)

    @model_validator(mode="after")
    def _fields_match_operation(self) -> Self:
        if (self.operation == "put") != (self.text is not None):
            raise ValueError("put takes text, remove takes none")
        return self


class BatchRecipient(_Closed):
    """One recipient of a batch, with what to put into the text for them."""

    recipient: Recipient
    variables: dict[VariableName, Variable] = Field(default_factory=dict, max_length=20)


class BatchSend(Payload):
    """One text to many recipients; `$name` in subject and body is filled in for each."""

    version: Literal[1] = 1
    urgency: Urgency = "bulk"
    batch_id: BatchId
    sender: Name
    subject: Subject | None = None
    body: Body
    recipients: list[BatchRecipient] = Field(min_length=1, max_length=1_000)

    def identity(self) -> tuple[object, ...]:
        return (self.batch_id,)

    def message_for(self, index: int) -> SendMessage:
        """The message to the recipient with that index."""
        one = self.recipients[index]
        subject = self.subject and Template(self.subject).substitute(one.variables)
        return SendMessage(
            tenant=self.tenant,
            urgency=self.urgency,
            message_id=f"{self.batch_id}:{index}",
            sender=self.sender,
            recipient=one.recipient,
            subject=subject,
            body=Template(self.body).substitute(one.variables),
        )

    @model_validator(mode="after")
    def _variables_are_complete(self) -> Self:
        texts = [Template(self.body), Template(self.subject or "")]
        if not all(text.is_valid() for text in texts):
            raise ValueError("a literal $ in subject or body must be written $$")
        wanted = {name for text in texts for name in text.get_identifiers()}
        for index, one in enumerate(self.recipients):
            if missing := sorted(wanted - one.variables.keys()):
                raise ValueError(f"recipients[{index}].variables lacks {', '.join(missing)}")
            try:  # the filled-in text has bounds of its own
                self.message_for(index)
            except ValidationError as error:
                raise ValueError(explain(f"recipients[{index}]", error)) from None
        return self


class Cleanup(Payload):
    """Remove what is older than a number of days; `messages` also leave the search index."""

    version: Literal[1] = 1
    urgency: Urgency = "bulk"
    what: list[Literal["effects", "deliveries", "messages"]] = Field(min_length=1, max_length=3)
    older_than_days: int = Field(ge=1, le=3_650)
    dry_run: bool = False

    def identity(self) -> None:
        return None
