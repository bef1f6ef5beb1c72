"""The store: which effects are done, how deliveries stand, and the sealed texts.

The table of effects is what makes a redelivery harmless: a task asks it before it touches the
world and writes to it afterwards. A worker that dies between the two repeats the call with the
same key, which the receiver recognises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection

from celeriac_messaging.adapters.base import CleanupKind, Delivery, Key
from celeriac_messaging.adapters.database import open_database, reading, writing
from celeriac_messaging.payloads import DeliveryState

RANK: dict[DeliveryState, int] = {"sent": 0, "bounced": 1, "delivered": 2, "read": 3}
"""A state only ever moves up, so confirmations may come in any order and more than once."""

_meta = MetaData()
_effects = Table(
    "effects",
    _meta,
    Column("id", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("at_ms", Integer, nullable=False, index=True),
)
_deliveries = Table(
    "deliveries",
    _meta,
    Column("tenant", String(63), primary_key=True),
    Column("message_id", String(128), primary_key=True),
    Column("recipient", String(2100), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("at_ms", Integer, nullable=False),
    Index("deliveries_at", "at_ms"),
)
_messages = Table(
    "messages",
    _meta,
    Column("tenant", String(63), primary_key=True),
    Column("message_id", String(128), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("key_id", String(128), nullable=False, index=True),
    Column("at_ms", Integer, nullable=False, index=True),
)
_TABLES = {"effects": _effects, "deliveries": _deliveries, "messages": _messages}


class SqlStore:
    """The store on one SQLite file."""

    def __init__(self, path: Path, *, now_ms: Callable[[], int]) -> None:
        self._engine = open_database(path)
        self._now_ms = now_ms
        with writing(self._engine) as connection:  # under the write lock: starts do not race
            _meta.create_all(connection)

    def close(self) -> None:
        self._engine.dispose()

    def is_done(self, effect: str) -> bool:
        with reading(self._engine) as connection:
            found = connection.execute(select(_effects.c.id).where(_effects.c.id == effect))
            return found.first() is not None

    def record(self, effect: str, *, kind: str, delivery: Delivery | None = None) -> bool:
        with writing(self._engine) as connection:
            done = connection.execute(
                insert(_effects)
                .values(id=effect, kind=kind, at_ms=self._now_ms())
                .on_conflict_do_nothing()
            )
            if delivery is not None:
                _merge(connection, delivery)
            return done.rowcount == 1

    def confirm(self, delivery: Delivery) -> bool:
        with writing(self._engine) as connection:
            return _merge(connection, delivery)

    def delivery(self, tenant: str, message_id: str, recipient: str) -> Delivery | None:
        columns = (_deliveries.c.state, _deliveries.c.at_ms)
        with reading(self._engine) as connection:
            row = connection.execute(
                select(*columns).where(
                    _deliveries.c.tenant == tenant,
                    _deliveries.c.message_id == message_id,
                    _deliveries.c.recipient == recipient,
                )
            ).first()
        return row and Delivery(tenant, message_id, recipient, row.state, row.at_ms)

    def put_sealed(self, tenant: str, message_id: str, sealed: bytes, key_id: str) -> bytes:
        row = {"tenant": tenant, "message_id": message_id, "sealed": sealed, "key_id": key_id}
        with writing(self._engine) as connection:
            connection.execute(
                insert(_messages).values(**row, at_ms=self._now_ms()).on_conflict_do_nothing()
            )
            kept = connection.execute(select(_messages.c.sealed).where(_is(tenant, message_id)))
            return cast(bytes, kept.scalar_one())

    def replace_sealed(
        self, tenant: str, message_id: str, *, old: bytes, new: bytes, key_id: str
    ) -> bool:
        with writing(self._engine) as connection:
            swapped = connection.execute(
                update(_messages)
                .where(_is(tenant, message_id), _messages.c.sealed == old)
                .values(sealed=new, key_id=key_id)
            )
            return swapped.rowcount == 1

    def sealed(self, tenant: str, message_id: str) -> bytes | None:
        with reading(self._engine) as connection:
            found = connection.execute(select(_messages.c.sealed).where(_is(tenant, message_id)))
            return cast("bytes | None", found.scalar())

    def older(self, kind: CleanupKind, before_ms: int, *, limit: int) -> list[Key]:
        table = _TABLES[kind]
        key = list(table.primary_key.columns)
        old = select(*key).where(table.c.at_ms < before_ms).order_by(table.c.at_ms).limit(limit)
        with reading(self._engine) as connection:
            return [tuple(row) for row in connection.execute(old)]

    def remove(self, kind: CleanupKind, keys: Sequence[Key]) -> int:
        table = _TABLES[kind]
        key = tuple_(*table.primary_key.columns)
        with writing(self._engine) as connection:
            return connection.execute(delete(table).where(key.in_(keys))).rowcount

    def count_older(self, kind: CleanupKind, before_ms: int) -> int:
        table = _TABLES[kind]
        with reading(self._engine) as connection:
            counted = connection.execute(
                select(func.count()).select_from(table).where(table.c.at_ms < before_ms)
            )
            return counted.scalar_one()


def _is(tenant: str, message_id: str) -> ColumnElement[bool]:
    return and_(_messages.c.tenant == tenant, _messages.c.message_id == message_id)


def _merge(connection: Connection, delivery: Delivery) -> bool:
    """Insert a delivery, or move it up to a further state."""
    row = {
        "tenant": delivery.tenant,
        "message_id": delivery.message_id,
        "recipient": delivery.recipient,
        "state": delivery.state,
        "rank": RANK[delivery.state],
        "at_ms": delivery.at_ms,
    }
    new = insert(_deliveries).values(**row)
    merged = connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant", "message_id", "recipient"],
            set_={
                "state": new.excluded.state,
                "rank": new.excluded.rank,
                "at_ms": new.excluded.at_ms,
            },
            where=_deliveries.c.rank < new.excluded.rank,
        )
    )
    return merged.rowcount == 1
