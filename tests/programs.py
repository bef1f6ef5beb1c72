"""The programs that tests run, and what a machine lacks of them: then a test is skipped, and says so."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from celeriac.broker.server_process import find_server


def lacking(text: str) -> NoReturn:
    """Skip the test; in CI, where nothing may be skipped, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def program(*names: str) -> str:
    """Find the first of these on PATH; `embedded` is the server that Celeriac brings along."""
    if "embedded" in names:
        return str(find_server())
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        lacking(f"no {' or '.join(names)} on PATH; scripts/debian-packages names what Debian needs")
    return found
