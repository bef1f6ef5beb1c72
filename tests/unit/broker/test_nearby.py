"""Who names no broker finds the `celeriac up` of the folder, while it lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from celeriac.broker.connection import BrokerURLError, from_environment
from celeriac.broker.nearby import url_of_up
from celeriac.client.client import Client

URL = "celeriac://:secret@127.0.0.1:28028/0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CELERIAC_BROKER_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".celeriac").mkdir()
    (tmp_path / ".celeriac/up.lock").touch()
    (tmp_path / ".celeriac/broker.json").write_text(f'{{"url": "{URL}", "pid": 1}}')
    return tmp_path


@contextmanager
def up(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".celeriac/up.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def broker_of(app: Celery) -> tuple[str, int]:
    host: tuple[str, int] = app.connection_for_write().transport.broker.hosts[0]
    return host


def test_it_is_found_while_up_lives(folder: Path) -> None:
    with up(folder):
        assert url_of_up() == url_of_up(folder) == from_environment() == URL
        Client().close()
    assert url_of_up() is None, "what a killed one left behind"
    with pytest.raises(BrokerURLError, match="run `celeriac up` in this folder"):
        Client()


def test_the_environment_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_BROKER_URL", "celeriac://elsewhere:1/0")
    with up(folder):
        assert from_environment() == "celeriac://elsewhere:1/0"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 7}'])
def test_a_damaged_file_is_none(folder: Path, text: str) -> None:
    (folder / ".celeriac/broker.json").write_text(text)
    with up(folder):
        assert url_of_up() is None


def test_an_app_whose_url_names_no_host_finds_it(folder: Path) -> None:
    app = Celery("test", broker="celeriac://", set_as_current=False)
    with up(folder):
        assert broker_of(app) == ("127.0.0.1", 28028)
    assert broker_of(app) == ("localhost", 6379)


def test_an_app_that_names_a_host_or_more_means_it(folder: Path) -> None:
    with up(folder):
        for url in ("celeriac://localhost", "celeriac:///0", "celeriac://localhost:6379/0"):
            app = Celery("test", broker=url, set_as_current=False)
            assert broker_of(app) == ("localhost", 6379)
