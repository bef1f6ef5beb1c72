"""Finding the Celery app, and explaining why it cannot be found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from celeriac.cli.apps import load_app
from celeriac.cli.errors import BadInput

MODULES = {
    "one_app": "from celery import Celery\nanything = Celery('one')\n",
    "usual_app": "from celery import Celery\napp = Celery('usual')\nother = Celery('other')\n",
    "two_apps": "from celery import Celery\nleft = Celery('left')\nright = Celery('right')\n",
    "no_app": "app = 'not an app'\n",
    "raises": "\n\nraise RuntimeError('no database')\n",
    "bad_syntax": "def broken(:\n",
    "lacks": "import surely_not_installed\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("one_app", "one"),
        ("one_app:anything", "one"),
        ("usual_app", "usual"),
        ("usual_app:other", "other"),
        ("two_apps:right", "right"),
    ],
)
def test_finds_an_app_in_this_folder(name: str, main: str) -> None:
    assert load_app(name).main == main


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("missing", "no module 'missing'", "Looked in"),
        ("missing.inner:app", "no module 'missing'", "Looked in"),
        ("src/one_app.py", "not a module name", "src.one_app"),
        ("", "not a module name", "package.module"),
        ("two_apps", "which app", "two_apps:left, two_apps:right"),
        ("usual_app:ap", "no 'ap'", "usual_app:app"),
        ("no_app", "which app", "holds no Celery app"),
        ("no_app:app", "'app' is a str, not a Celery app", "holds no Celery app"),
        ("raises", "RuntimeError: no database", "raises.py:3: raise RuntimeError"),
        ("bad_syntax", "SyntaxError", "bad_syntax.py:1: def broken"),
        ("lacks", "No module named 'surely_not_installed'", "lacks.py:1: import surely"),
    ],
)
def test_says_what_is_wrong_and_what_would_be_right(name: str, message: str, hint: str) -> None:
    with pytest.raises(BadInput) as raised:
        load_app(name)
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert raised.value.exit_code == 2
