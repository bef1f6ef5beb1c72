"""Envelope encryption: every message has a key of its own, which a key-encryption key wraps.

Both layers are AES-256-GCM, and both are bound to tenant and message id, so that a sealed text
moved to another row does not open. Rotation re-wraps the small key and leaves the text alone;
forgetting the wrapped key shreds the text. A wrapping key serves for 2^32 messages.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from celeriac_messaging.errors import KeyNotFound, SealBroken
from celeriac_messaging.settings import needed

FORMAT = 1
_NONCE = 12


@dataclass(frozen=True, slots=True)
class _Envelope:
    key_id: str
    wrapped: bytes
    text: bytes

    def dump(self) -> bytes:
        fields = {
            "v": FORMAT,
            "kid": self.key_id,
            "key": base64.b64encode(self.wrapped).decode(),
            "text": base64.b64encode(self.text).decode(),
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def load(cls, sealed: bytes) -> _Envelope:
        try:
            fields = json.loads(sealed)
            if fields["v"] != FORMAT:
                raise SealBroken("sealed text is of a format that this version does not know")
            wrapped = base64.b64decode(fields["key"], validate=True)
            text = base64.b64decode(fields["text"], validate=True)
            return cls(str(fields["kid"]), wrapped, text)
        except (ValueError, KeyError, TypeError):
            raise SealBroken("sealed text cannot be read") from None


def _bound_to(part: str, tenant: str, message_id: str) -> bytes:
    """The additional data: what a layer is for, and whose it is, without ambiguity."""
    return json.dumps([part, tenant, message_id], separators=(",", ":")).encode()


class KeyVault:
    """Seals with the first of its keys, opens with any."""

    def __init__(
        self, keys: Mapping[str, bytes], *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._first = next(iter(keys), None)
        self._random = random

    @property
    def current(self) -> str:
        return needed(self._first, "KEYS", "messages are sealed with it")

    def seal(self, tenant: str, message_id: str, text: str) -> bytes:
        own = self._random(32)
        sealed = self._encrypt(AESGCM(own), text.encode(), _bound_to("text", tenant, message_id))
        wrapped = self._wrap(self.current, own, tenant, message_id)
        return _Envelope(self.current, wrapped, sealed).dump()

    def open(self, tenant: str, message_id: str, sealed: bytes) -> str:
        envelope = _Envelope.load(sealed)
        own = AESGCM(self._unwrap(envelope, tenant, message_id))
        return self._decrypt(own, envelope.text, _bound_to("text", tenant, message_id)).decode()

    def rewrap(self, tenant: str, message_id: str, sealed: bytes, key_id: str) -> bytes:
        envelope = _Envelope.load(sealed)
        own = self._unwrap(envelope, tenant, message_id)
        wrapped = self._wrap(key_id, own, tenant, message_id)
        return _Envelope(key_id, wrapped, envelope.text).dump()

    def key_of(self, sealed: bytes) -> str:
        return _Envelope.load(sealed).key_id

    def _wrap(self, key_id: str, own: bytes, tenant: str, message_id: str) -> bytes:
        return self._encrypt(self._key(key_id), own, _bound_to("key", tenant, message_id))

    def _unwrap(self, envelope: _Envelope, tenant: str, message_id: str) -> bytes:
        bound = _bound_to("key", tenant, message_id)
        return self._decrypt(self._key(envelope.key_id), envelope.wrapped, bound)

    def _key(self, key_id: str) -> AESGCM:
        if key_id not in self._keys:
            raise KeyNotFound(f"no key {key_id[:128]!r} in MESSAGING_KEYS here")
        return self._keys[key_id]

    def _encrypt(self, cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
        nonce = self._random(_NONCE)
        return nonce + cipher.encrypt(nonce, plain, bound)

    def _decrypt(self, cipher: AESGCM, sealed: bytes, bound: bytes) -> bytes:
        try:
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
        except (InvalidTag, ValueError):
            raise SealBroken("sealed text was altered, or belongs to another message") from None
