"""Web Push: the message encrypted for one browser (RFC 8291), the sender identified (RFC 8292).

The push service in between sees only the size and the topic. The topic is the job's id: while the
browser is away, a second copy of the same push replaces the first (RFC 8030).
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from celeriac_messaging.adapters.http import GuardedPost
from celeriac_messaging.payloads import PushTarget
from celeriac_messaging.payloads.fields import base64url_bytes
from celeriac_messaging.settings import needed

RECORD_BYTES = 4096
TOKEN_SECONDS = 12 * 3600
_CURVE = ec.SECP256R1()


def b64url(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half as an uncompressed point, 65 bytes."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def record_keys(
    shared: bytes, auth: bytes, browser: bytes, sender: bytes, salt: bytes
) -> tuple[bytes, bytes]:
    """Content key and nonce (RFC 8291 section 3.4); both sides derive the same."""
    info = b"WebPush: info\x00" + browser + sender
    secret = _hkdf(auth, shared, info, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\x00", 12)
    return key, nonce


def encrypt(
    plaintext: bytes,
    *,
    browser_key: bytes,
    auth: bytes,
    sender: ec.EllipticCurvePrivateKey,
    salt: bytes,
) -> bytes:
    """One aes128gcm record for one browser; `sender` and `salt` must be new each time.

    Raises ValueError when the plaintext does not fit one record or the key is not on the curve.
    """
    if len(plaintext) > RECORD_BYTES - 86 - 17:
        raise ValueError("too long for one Web Push record")
    browser = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, browser_key)
    shared = sender.exchange(ec.ECDH(), browser)
    sender_key = public_bytes(sender)
    key, nonce = record_keys(shared, auth, browser_key, sender_key, salt)
    header = salt + RECORD_BYTES.to_bytes(4, "big") + bytes([len(sender_key)]) + sender_key
    return header + AESGCM(key).encrypt(nonce, plaintext + b"\x02", None)


@dataclass(frozen=True, slots=True)
class Vapid:
    """The identity of the sender towards push services."""

    key: ec.EllipticCurvePrivateKey
    subject: str

    @classmethod
    def from_raw(cls, raw: bytes, subject: str) -> Vapid:
        """From the private key's 32 bytes."""
        return cls(ec.derive_private_key(int.from_bytes(raw, "big"), _CURVE), subject)

    def authorization(self, endpoint: str, *, now_s: int) -> str:
        """The Authorization header for an endpoint: a token for its origin, and our key."""
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": now_s + TOKEN_SECONDS,
            "sub": self.subject,
        }
        signed = ".".join(
            b64url(json.dumps(part, separators=(",", ":")).encode())
            for part in ({"typ": "JWT", "alg": "ES256"}, claims)
        )
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        token = f"{signed}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
        return f"vapid t={token}, k={b64url(public_bytes(self.key))}"


class WebPush:
    """Sends pushes to whatever endpoint a subscription names."""

    def __init__(
        self, post: GuardedPost, *, vapid: Vapid | None, now_ms: Callable[[], int]
    ) -> None:
        self._post = post
        self._vapid = vapid
        self._now_ms = now_ms

    def send(self, *, effect: str, target: PushTarget, document: bytes, urgent: bool) -> None:
        vapid = needed(
            self._vapid, "VAPID_KEY or _VAPID_SUBJECT", "push services ask who is calling"
        )
        body = encrypt(
            document,
            browser_key=base64url_bytes(target.p256dh),
            auth=base64url_bytes(target.auth),
            sender=ec.generate_private_key(_CURVE),
            salt=os.urandom(16),
        )
        headers = {
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(target.ttl_seconds),
            "Urgency": "high" if urgent else "normal",
            "Topic": b64url(uuid.UUID(effect).bytes),
            "Authorization": vapid.authorization(target.endpoint, now_s=self._now_ms() // 1000),
        }
        self._post(target.endpoint, body=body, headers=headers)
