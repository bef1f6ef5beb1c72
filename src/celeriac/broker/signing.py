"""Signatures of messages: who may write to a queue's streams need not be able to say what workers run.

A signature stands in front of a message's head, on a line of its own:

    s1 <key id> <HMAC-SHA256 in base64url, 43 characters>\\n<the head as it was>

It covers what decides what is run: the queue with its prefix, the message's id and task, head and body. It
does not cover what the queue itself counts or decides (attempts, deliveries, times, priority), which changes
between publish and claim. So a message keeps its signature over policy retries, lost workers and redrives;
only a retry with another head or body is signed anew, by the worker.
"""

from __future__ import annotations

import binascii
import hmac
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from celeriac.spec.errors import CeleriacError

logger = logging.getLogger(__name__)

KEYS_VARIABLE = "CELERIAC_SIGNING_KEYS"
FILE_VARIABLE = "CELERIAC_SIGNING_KEYS_FILE"
REQUIRED_VARIABLE = "CELERIAC_SIGNING_REQUIRED"

_MARK = b"s1 "
#: Mark, key id, space, digest, line break: a longer first line is none of ours.
_LONGEST_LINE = 96
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_SECRET_BYTES = 32
#: A file of keys is looked at so often, in seconds, and at once when a key is not known.
_LOOK_S = 10.0
_HOW = "one line of ID:BASE64 pairs, newest first; make a secret with: openssl rand -base64 32"


class SigningKeysError(CeleriacError, ValueError):
    """The signing keys cannot be used; the text says which, and what would be right."""


class BadSignature(CeleriacError):
    """A message was not signed with a key that is known here; the text says why."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Secrets by key id, newest first: the newest signs, all verify."""

    secrets: Mapping[str, bytes] = field(repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, newest first."""
        return tuple(self.secrets)

    def sign(self, place: str, id: str, task: str, head: bytes, body: bytes) -> bytes:
        """Write the head of a message for ``place`` (a queue's base of keys) with its signature in front."""
        key_id, secret = next(iter(self.secrets.items()))
        digest = _digest(secret, place, id, task, head, body)
        return b"%b%b %b\n%b" % (_MARK, key_id.encode(), digest, head)

    def knows(self, head: bytes) -> bool:
        """Whether a head has a signature by one of these keys, or one that names no key at all."""
        signature, _ = split(head)
        return signature is None or signature[0] in self.secrets

    def verify(self, place: str, id: str, task: str, head: bytes, body: bytes) -> bytes:
        """Return the head without its signature. Raises BadSignature."""
        signature, unsigned = split(head)
        if signature is None:
            raise BadSignature(
                f"it is not signed, and this worker runs only what is signed by {self._names()}: "
                f"give its producer the keys ({KEYS_VARIABLE})"
            )
        key_id, digest = signature
        secret = self.secrets.get(key_id)
        if secret is None:
            raise BadSignature(
                f"it is signed by key {key_id!r}, and this worker knows {self._names()}: "
                "a new key must reach the workers before producers sign with it"
            )
        if not hmac.compare_digest(digest, _digest(secret, place, id, task, unsigned, body)):
            raise BadSignature(
                f"its signature by key {key_id!r} is wrong: it was changed, or signed for another queue "
                "or prefix, or by another secret of the same id"
            )
        return unsigned

    def _names(self) -> str:
        return f"key {self.ids[0]!r}" if len(self.ids) == 1 else f"keys {', '.join(self.ids)}"


def split(head: bytes) -> tuple[tuple[str, bytes] | None, bytes]:
    """Take a head apart into its signature (key id and digest; None without) and what was signed."""
    if not head.startswith(_MARK):
        return None, head
    end = head.find(b"\n", 0, _LONGEST_LINE)
    key_id, space, digest = head[len(_MARK) : max(end, 0)].partition(b" ")
    if end < 0 or not space:
        return None, head
    return (key_id.decode("ascii", "replace"), digest), head[end + 1 :]


def unsigned(head: bytes) -> bytes:
    """Take the signature off a head, if there is one, whoever signed it."""
    return split(head)[1]


def read_keys(text: str, *, source: str) -> Keyring:
    """Read keys. Raises SigningKeysError; no secret is ever part of its text."""
    secrets: dict[str, bytes] = {}
    for number, part in enumerate(filter(None, re.split(r"[\s,]+", text)), 1):
        key_id, colon, encoded = part.partition(":")
        if not colon or not _KEY_ID.fullmatch(key_id):
            raise SigningKeysError(f"{source}: entry {number} has no proper id; write {_HOW}")
        if key_id in secrets:
            raise SigningKeysError(f"{source}: key {key_id!r} is there twice; ids must differ")
        try:
            secret = binascii.a2b_base64(encoded, strict_mode=True)
        except binascii.Error as error:
            raise SigningKeysError(
                f"{source}: key {key_id!r} is not base64; write {_HOW}"
            ) from error
        if len(secret) < _SECRET_BYTES:
            raise SigningKeysError(
                f"{source}: key {key_id!r} has {len(secret)} bytes, and {_SECRET_BYTES} are the least; "
                f"write {_HOW}"
            )
        secrets[key_id] = secret
    if not secrets:
        raise SigningKeysError(f"{source}: no keys; write {_HOW}")
    return Keyring(secrets)


class SigningKeys:
    """The keys of this process; those of a file are read again when it changes. Threads may share it."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        required: bool = True,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``required``: whether unsigned messages are refused, or only wrongly signed ones."""
        self._keyring = keyring
        self._required = required
        self._file = file
        self._clock = clock
        self._looked = clock()
        self._stamp = _stamp_of(file)
        self._looking = threading.Lock()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, newest first."""
        return self._keyring.ids

    @property
    def required(self) -> bool:
        """Whether unsigned messages are refused."""
        return self._required

    def sign(self, place: str, id: str, task: str, head: bytes, body: bytes) -> bytes:
        """Sign a message with the newest key; returns its new head."""
        self._look(_LOOK_S)
        return self._keyring.sign(place, id, task, head, body)

    def verify(self, place: str, id: str, task: str, head: bytes, body: bytes) -> bytes:
        """Return the head without its signature. Raises BadSignature."""
        if not self._required and split(head)[0] is None:
            return head
        self._look(_LOOK_S if self._keyring.knows(head) else 0)
        return self._keyring.verify(place, id, task, head, body)

    def _look(self, after_s: float) -> None:
        if self._file is None or self._clock() - self._looked < after_s:
            return
        with self._looking:
            self._looked = self._clock()
            stamp = _stamp_of(self._file)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._keyring = read_keys(_text_of(self._file), source=str(self._file))
            except SigningKeysError as error:
                logger.error("the signing keys stay as they were: %s", error)
                return
        logger.info("signing keys: %s signs; known are %s", self.ids[0], ", ".join(self.ids))


def from_environment(environment: Mapping[str, str] = os.environ) -> SigningKeys | None:
    """Read the keys that the environment names; None when it names none. Raises SigningKeysError."""
    text, name = environment.get(KEYS_VARIABLE, ""), environment.get(FILE_VARIABLE, "")
    required = environment.get(REQUIRED_VARIABLE, "") or "1"
    if required not in {"0", "1"}:
        raise SigningKeysError(f"{REQUIRED_VARIABLE} is {required!r}: must be 1 (default) or 0")
    if text and name:
        raise SigningKeysError(f"{KEYS_VARIABLE} and {FILE_VARIABLE} are both set: keep one")
    if text:
        return SigningKeys(read_keys(text, source=KEYS_VARIABLE), required=required == "1")
    if not name:
        return None
    file = Path(name)
    keyring = read_keys(_text_of(file), source=f"{FILE_VARIABLE} ({name})")
    return SigningKeys(keyring, required=required == "1", file=file)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise SigningKeysError(f"{FILE_VARIABLE}: {file} cannot be read: {error}") from error


def _stamp_of(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is written, or a mounted Secret is exchanged; None when it is not there."""
    try:
        seen = file.stat() if file is not None else None
    except OSError:
        return None
    return None if seen is None else (seen.st_ino, seen.st_mtime_ns, seen.st_size)


def _digest(secret: bytes, place: str, id: str, task: str, head: bytes, body: bytes) -> bytes:
    parts: tuple[bytes, ...] = (place.encode(), id.encode(), task.encode(), head, body)
    # The lengths first, so that no two messages are one text.
    lengths = b"celeriac 1 %d %d %d %d %d\n" % tuple(map(len, parts))
    raw = hmac.digest(secret, lengths + b"".join(parts), "sha256")
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).rstrip(b"=")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
