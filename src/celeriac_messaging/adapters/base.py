"""The protocols that tasks are written against.

Every call that has an effect outside this process takes an `effect`: the id of the job. It travels
with the call (Message-ID, webhook-id, push topic), so that a receiver that sees it twice knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from celeriac_messaging.payloads import DeliveryState, PushTarget

CleanupKind = Literal["effects", "deliveries", "messages"]
Key = tuple[str, ...]
"""A row's primary key: (effect), (tenant, message, recipient) or (tenant, message)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is known of one message at one recipient; `at_ms` is when that became known."""

    tenant: str
    message_id: str
    recipient: str
    state: DeliveryState
    at_ms: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A message found, best first by `rank` (lower is better)."""

    message_id: str
    rank: float


class Store(Protocol):
    """What the application remembers. All of it is safe to repeat."""

    def close(self) -> None:
        """Close every connection."""

    def is_done(self, effect: str) -> bool:
        """Whether this effect has been recorded as done."""

    def record(self, effect: str, *, kind: str, delivery: Delivery | None = None) -> bool:
        """Record an effect as done, and a delivery with it; False when it already was."""

    def confirm(self, delivery: Delivery) -> bool:
        """Merge one delivery's state, the furthest wins; True when that changed something."""

    def delivery(self, tenant: str, message_id: str, recipient: str) -> Delivery | None:
        """What is known of a message at a recipient."""

    def put_sealed(self, tenant: str, message_id: str, sealed: bytes, key_id: str) -> bytes:
        """Keep a sealed text unless there is one; returns the one that is kept."""

    def replace_sealed(
        self, tenant: str, message_id: str, *, old: bytes, new: bytes, key_id: str
    ) -> bool:
        """Swap a sealed text for another, if it is still `old`."""

    def sealed(self, tenant: str, message_id: str) -> bytes | None:
        """The sealed text of a message."""

    def older(self, kind: CleanupKind, before_ms: int, *, limit: int) -> list[Key]:
        """The keys of at most `limit` rows older than that, the oldest first."""

    def remove(self, kind: CleanupKind, keys: Sequence[Key]) -> int:
        """Remove those rows; returns how many there were."""

    def count_older(self, kind: CleanupKind, before_ms: int) -> int:
        """How many rows are older than that."""


class Mailer(Protocol):
    """Sends one e-mail."""

    def send(self, *, effect: str, to: str, sender: str, subject: str, body: str) -> None:
        """Raises RecipientBusy or RecipientRefused."""


class Webhooks(Protocol):
    """Calls a recipient's endpoint with a signed document."""

    def post(self, *, effect: str, url: str, document: bytes) -> None:
        """Raises RecipientBusy, RecipientRefused, RecipientGone or ForbiddenAddress."""


class Push(Protocol):
    """Sends one Web Push."""

    def send(self, *, effect: str, target: PushTarget, document: bytes, urgent: bool) -> None:
        """Raises RecipientBusy, RecipientRefused, RecipientGone or ForbiddenAddress."""


class Search(Protocol):
    """Finds messages by their words."""

    def close(self) -> None:
        """Close every connection."""

    def put(self, tenant: str, message_id: str, *, revision: int, text: str) -> bool:
        """Index a text; False when a later revision is there already."""

    def remove(self, tenant: str, message_id: str, *, revision: int | None = None) -> bool:
        """Take a message out; with no revision, for good. False when a later one is there."""

    def find(self, tenant: str, query: str, *, limit: int = 20) -> list[Hit]:
        """The messages of one tenant that hold all words of the query."""


class Vault(Protocol):
    """Seals texts so that only a holder of the keys reads them."""

    @property
    def current(self) -> str:
        """The id of the key that new seals use."""

    def seal(self, tenant: str, message_id: str, text: str) -> bytes:
        """Seal a text for this tenant and message."""

    def open(self, tenant: str, message_id: str, sealed: bytes) -> str:
        """Raises KeyNotFound and SealBroken."""

    def rewrap(self, tenant: str, message_id: str, sealed: bytes, key_id: str) -> bytes:
        """Move a seal under another key; the sealed text itself stays as it is."""

    def key_of(self, sealed: bytes) -> str:
        """The id of the key that a seal is under."""
