"""A browser that is subscribed to pushes: holds the private key, and reads what it receives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from celeriac_messaging.adapters.webpush import b64url, public_bytes, record_keys

_SALT, _SIZE, _HEADER = 16, 4, 21


@dataclass(frozen=True, slots=True)
class Browser:
    """One subscription's secrets."""

    key: ec.EllipticCurvePrivateKey
    auth: bytes

    @classmethod
    def new(cls) -> Browser:
        """With fresh keys."""
        return cls(ec.generate_private_key(ec.SECP256R1()), os.urandom(16))

    @classmethod
    def from_raw(cls, key: bytes, auth: bytes) -> Browser:
        """From the private key's 32 bytes and the authentication secret."""
        return cls(ec.derive_private_key(int.from_bytes(key, "big"), ec.SECP256R1()), auth)

    def raw_key(self) -> bytes:
        """The private key's 32 bytes."""
        return self.key.private_numbers().private_value.to_bytes(32, "big")

    def target(self, endpoint: str) -> dict[str, Any]:
        """The subscription as a notification's target."""
        return {
            "channel": "push",
            "endpoint": endpoint,
            "p256dh": b64url(public_bytes(self.key)),
            "auth": b64url(self.auth),
        }

    def read(self, body: bytes) -> bytes:
        """Decrypt what arrived (RFC 8188 header, RFC 8291 keys). Raises InvalidTag, ValueError."""
        salt, length = body[:_SALT], body[_SALT + _SIZE]
        sender_key = body[_HEADER : _HEADER + length]
        sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender_key)
        shared = self.key.exchange(ec.ECDH(), sender)
        key, nonce = record_keys(shared, self.auth, public_bytes(self.key), sender_key, salt)
        padded = AESGCM(key).decrypt(nonce, body[_HEADER + length :], None).rstrip(b"\x00")
        if padded[-1:] != b"\x02":
            raise ValueError("not the last record of a push")
        return padded[:-1]
