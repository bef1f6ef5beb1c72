"""SQLite through SQLAlchemy, set up so that many processes and threads may write.

WAL lets readers go on while one writes; a writer takes its lock when the transaction begins
(`BEGIN IMMEDIATE`), so that two never deadlock half-way; who finds it taken waits. The engine must
be made after a fork, never carried across one. The file must lie on a local disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text

BUSY_SECONDS = 30
_READ = "sqlite_read_only"


def open_database(path: Path) -> Engine:
    """An engine on that file, whose folder is made when needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS},
        hide_parameters=True,  # errors are logged and kept; parameters hold what people wrote
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A consistent view that takes no lock."""
    with engine.connect().execution_options(**{_READ: True}) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction, committed at the end, rolled back on an error."""
    with engine.begin() as connection:
        yield connection


def run_all(connection: Connection, statements: tuple[str, ...]) -> None:
    """Run statements that take no parameters, such as those that make tables."""
    for statement in statements:
        connection.execute(text(statement))
