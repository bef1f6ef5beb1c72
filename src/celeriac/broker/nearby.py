"""The broker of the `celeriac up` that runs in this folder, for whoever names none.

`up` chooses port and password anew when it starts, and writes them where only its user can read them.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

#: The folder in which a running `up` tells others about itself, and what is in it.
FOLDER = ".celeriac"
LOCK = "up.lock"
BROKER = "broker.json"


def url_of_up(folder: Path | None = None) -> str | None:
    """The broker's URL; None when no `up` runs there. ``folder`` is where it was started (default: here)."""
    place = (folder or Path.cwd()) / FOLDER
    try:
        url = json.loads((place / BROKER).read_text()).get("url")
        return url if isinstance(url, str) and _is_held(place / LOCK) else None
    except (OSError, ValueError, AttributeError):
        return None


def _is_held(lock: Path) -> bool:
    """Whether an `up` lives: one that was killed leaves its files behind, and not its lock."""
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
