"""Web Push: the RFC's own example, a browser that reads it, and the sender's token."""

from __future__ import annotations

import json

import http_ece
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from celeriac_messaging.adapters.http import GuardedPost
from celeriac_messaging.adapters.webpush import Vapid, WebPush, encrypt, public_bytes
from celeriac_messaging.demo.browser import Browser
from celeriac_messaging.demo.sinks import HttpSink
from celeriac_messaging.errors import ConfigurationError, RecipientGone
from celeriac_messaging.payloads import PushTarget
from celeriac_messaging.payloads.fields import base64url_bytes as raw
from celeriac_messaging.wiring import Tools

EFFECT = "1b671a64-40d5-491e-99b0-da01ff1f3341"
# RFC 8291, section 5 and appendix A
TEXT = b"When I grow up, I want to be a watermelon"
BROWSER_PRIVATE = raw("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
BROWSER_PUBLIC = raw(
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
)
SENDER_PRIVATE = raw("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
AUTH = raw("BTBZMqHH6r4Tts7J_aSIgg")
SALT = raw("DGv6ra1nlYgDCS1FRnbzlw")
RECORD = raw(
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
    "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
    "lcy4a-fN"
)


def private(number: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(number, "big"), ec.SECP256R1())


def test_the_example_of_the_rfc_comes_out_byte_for_byte() -> None:
    made = encrypt(
        TEXT, browser_key=BROWSER_PUBLIC, auth=AUTH, sender=private(SENDER_PRIVATE), salt=SALT
    )
    assert made == RECORD


def test_our_browser_reads_the_example_of_the_rfc() -> None:
    assert Browser.from_raw(BROWSER_PRIVATE, AUTH).read(RECORD) == TEXT


def test_a_browser_reads_what_was_sent_and_no_other_does(tools: Tools, web: HttpSink) -> None:
    browser = Browser.new()
    target = PushTarget.model_validate(browser.target(web.url("/push/amina")))
    tools.push.send(effect=EFFECT, target=target, document="नमस्ते 👋".encode(), urgent=True)
    (arrived,) = web.journal.arrivals()
    assert browser.read(arrived.body).decode() == "नमस्ते 👋"
    with pytest.raises(InvalidTag):
        Browser.new().read(arrived.body)
    assert arrived.headers["content-encoding"] == "aes128gcm"
    assert arrived.headers["ttl"] == "86400"
    assert arrived.headers["urgency"] == "high"
    assert len(arrived.headers["topic"]) <= 32


def test_another_implementation_reads_what_was_sent() -> None:
    browser = Browser.new()
    body = encrypt(
        TEXT,
        browser_key=public_bytes(browser.key),
        auth=browser.auth,
        sender=private(SENDER_PRIVATE),
        salt=SALT,
    )
    read = http_ece.decrypt(body, private_key=browser.key, auth_secret=browser.auth)
    assert read == TEXT


def test_the_longest_push_fits_and_one_byte_more_does_not() -> None:
    browser = Browser.new()
    sender = private(SENDER_PRIVATE)
    key, salt = public_bytes(browser.key), b"s" * 16
    most = b"x" * 3993
    body = encrypt(most, browser_key=key, auth=browser.auth, sender=sender, salt=salt)
    assert len(body) == 4096
    assert browser.read(body) == most
    with pytest.raises(ValueError, match="too long"):
        encrypt(most + b"x", browser_key=key, auth=browser.auth, sender=sender, salt=salt)


def test_the_token_is_for_the_endpoints_origin_and_signed_with_the_key() -> None:
    vapid = Vapid.from_raw(b"\x07" * 32, "mailto:ops@example.org")
    header = vapid.authorization("https://push.example.org:8443/a/b?c", now_s=1_000)
    scheme, token, public = header.replace(",", "").split(" ")
    signed, _, signature = token.removeprefix("t=").rpartition(".")
    head, claims = (json.loads(raw(part)) for part in signed.split("."))
    assert scheme == "vapid"
    assert head == {"typ": "JWT", "alg": "ES256"}
    assert claims == {
        "aud": "https://push.example.org:8443",
        "exp": 1_000 + 12 * 3600,
        "sub": "mailto:ops@example.org",
    }
    rs = raw(signature)
    der = encode_dss_signature(int.from_bytes(rs[:32], "big"), int.from_bytes(rs[32:], "big"))
    key = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), raw(public.removeprefix("k="))
    )
    key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))


def test_a_subscription_that_ended_is_gone(tools: Tools, web: HttpSink) -> None:
    web.manners.gone.add("/push/old")
    target = PushTarget.model_validate(Browser.new().target(web.url("/push/old")))
    with pytest.raises(RecipientGone):
        tools.push.send(effect=EFFECT, target=target, document=b"{}", urgent=False)


def test_without_an_identity_the_setting_is_named(web: HttpSink) -> None:
    push = WebPush(GuardedPost(timeout_seconds=1), vapid=None, now_ms=lambda: 0)
    target = PushTarget.model_validate(Browser.new().target(web.url("/push/x")))
    with pytest.raises(ConfigurationError, match="MESSAGING_VAPID_KEY"):
        push.send(effect=EFFECT, target=target, document=b"{}", urgent=False)
