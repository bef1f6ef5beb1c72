"""Full-text search on SQLite FTS5, for every script.

Words are what Unicode calls letters, digits and the marks that belong to them (without the marks,
Hindi falls apart). Chinese, Japanese, Thai and their kin write no spaces between words: each of
their characters becomes a word, and a run of them in a query must be found in that order.
"""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection, Row, text

from celeriac_messaging.adapters.base import Hit
from celeriac_messaging.adapters.database import open_database, reading, run_all, writing

REMOVED_FOR_GOOD = 2**53
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005\u3007\u3021-\u3029"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
_EACH = re.compile(f"([{_UNSPACED}])")
_RUN = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_TABLES = (
    """CREATE TABLE IF NOT EXISTS documents (
        number INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        message_id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        UNIQUE (tenant, message_id))""",
    """CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(
        text, tokenize = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'")""",
)


def spaced(value: str) -> str:
    """The text with a space around every character of a script that writes none."""
    return _EACH.sub(r" \1 ", value)


def as_query(query: str) -> str:
    """What a person typed, as an FTS5 query: all words, none of them taken for an operator."""
    phrases = []
    for typed in query.split():
        for run in _RUN.findall(typed):
            quoted = spaced(run).strip().replace('"', '""')
            if any(char.isalnum() for char in quoted):
                phrases.append(f'"{quoted}"')
    return " ".join(phrases)


class FtsSearch:
    """The index on one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._engine = open_database(path)
        with writing(self._engine) as connection:
            run_all(connection, _TABLES)

    def close(self) -> None:
        self._engine.dispose()

    def put(self, tenant: str, message_id: str, *, revision: int, text: str) -> bool:
        return self._revise(tenant, message_id, revision, text)

    def remove(self, tenant: str, message_id: str, *, revision: int | None = None) -> bool:
        revision = REMOVED_FOR_GOOD if revision is None else revision
        return self._revise(tenant, message_id, revision, None)

    def find(self, tenant: str, query: str, *, limit: int = 20) -> list[Hit]:
        phrases = as_query(query)
        if not phrases:
            return []
        with reading(self._engine) as connection:
            rows = connection.execute(
                text(
                    "SELECT d.message_id, words.rank FROM words"
                    " JOIN documents d ON d.number = words.rowid"
                    " WHERE words MATCH :query AND d.tenant = :tenant"
                    " ORDER BY words.rank LIMIT :limit"
                ),
                {"query": phrases, "tenant": tenant, "limit": limit},
            ).all()
        return [Hit(row.message_id, row.rank) for row in rows]

    def _revise(self, tenant: str, message_id: str, revision: int, value: str | None) -> bool:
        """Make `value` the text of the message, unless a later revision is there.

        A removed message keeps its row, so that an older job that comes late changes nothing.
        """
        with writing(self._engine) as connection:
            row = _upsert(connection, tenant, message_id, revision)
            if row is None:
                return False
            number = {"number": row.number}
            connection.execute(text("DELETE FROM words WHERE rowid = :number"), number)
            if value is not None:
                connection.execute(
                    text("INSERT INTO words (rowid, text) VALUES (:number, :text)"),
                    {**number, "text": spaced(value)},
                )
            return True


def _upsert(
    connection: Connection, tenant: str, message_id: str, revision: int
) -> Row[tuple[int]] | None:
    return connection.execute(
        text(
            "INSERT INTO documents (tenant, message_id, revision)"
            " VALUES (:tenant, :message_id, :revision)"
            " ON CONFLICT (tenant, message_id) DO UPDATE SET revision = excluded.revision"
            " WHERE excluded.revision >= documents.revision RETURNING number"
        ),
        {"tenant": tenant, "message_id": message_id, "revision": revision},
    ).first()
