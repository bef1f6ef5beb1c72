"""The demo's folder: what must be the same when an interrupted demo is started again.

Waiting messages name the sinks' ports and the devices' keys, so these are made once and kept,
together with the secrets that the workers sign and seal with. A demo that ran to its end leaves
its folder for looking around; the next one begins with an empty one.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from celeriac_messaging.adapters.webpush import b64url
from celeriac_messaging.demo.browser import Browser
from celeriac_messaging.payloads.fields import base64url_bytes

Phase = Literal["sending", "repaired", "finished"]
STATE = "demo.json"


class NotOurFolder(Exception):
    """The folder holds something, but no demo."""


@dataclass(slots=True)
class State:
    """What is kept between two starts of the same demo."""

    phase: Phase = "sending"
    web_port: int = 0
    smtp_port: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    devices: dict[str, list[str]] = field(default_factory=dict)


class DemoFolder:
    """The folder and its state; `resumed` says whether an earlier start left work behind."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Open or make the folder. Raises NotOurFolder rather than touch what is not a demo's."""
        self.path = path.absolute()
        self._file = self.path / STATE
        if self.path.exists() and any(self.path.iterdir()) and not self._file.exists():
            raise NotOurFolder(f"{path} is not empty and holds no demo; name another with --data")
        self.state = self._read()
        if self._file.exists() and (fresh or self.state.phase == "finished"):
            shutil.rmtree(self.path)
            self.state = State()
        self.resumed = self._file.exists()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("web_hook", "vapid", "key_current", "key_archive"):
            self.state.secrets.setdefault(name, b64url(os.urandom(32)))
        self.save()

    def save(self) -> None:
        """Write the state, whole or not at all, readable by its owner only."""
        draft = self._file.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self.state), file, indent=1)
        draft.replace(self._file)

    def enter(self, phase: Phase) -> None:
        """Note how far the demo is."""
        self.state.phase = phase
        self.save()

    def browser(self, device: str) -> Browser:
        """The browser on that device, with the keys it has had since it was first asked for."""
        if device not in self.state.devices:
            new = Browser.new()
            self.state.devices[device] = [b64url(new.raw_key()), b64url(new.auth)]
            self.save()
        key, auth = self.state.devices[device]
        return Browser.from_raw(base64url_bytes(key), base64url_bytes(auth))

    def environment(self) -> dict[str, str]:
        """The settings of the workers, as environment variables."""
        secrets = self.state.secrets
        current, archive = (_base64(secrets[name]) for name in ("key_current", "key_archive"))
        return {
            "MESSAGING_DEMO": "1",
            "MESSAGING_DATA_DIR": str(self.path / "data"),
            "MESSAGING_ALLOW_NETWORKS": "127.0.0.0/8",
            "MESSAGING_SMTP_HOST": "127.0.0.1",
            "MESSAGING_SMTP_PORT": str(self.state.smtp_port),
            "MESSAGING_SMTP_SECURITY": "none",
            "MESSAGING_MAIL_FROM": "post@messaging.example",
            "MESSAGING_WEBHOOK_SECRETS": f"whsec_{_base64(secrets['web_hook'])}",
            "MESSAGING_VAPID_KEY": secrets["vapid"],
            "MESSAGING_VAPID_SUBJECT": "mailto:ops@messaging.example",
            "MESSAGING_KEYS": f"current={current},archive={archive}",
        }

    def _read(self) -> State:
        try:
            fields: dict[str, Any] = json.loads(self._file.read_text())
            return State(**fields)
        except (OSError, ValueError, TypeError):
            return State()


def _base64(value: str) -> str:
    return base64.b64encode(base64url_bytes(value)).decode()
