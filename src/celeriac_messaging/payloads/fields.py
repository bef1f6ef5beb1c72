"""The building blocks of payloads: every string is bounded, every address is checked.

An error's text says what would be right and never repeats the value, because it ends up in logs
and dead letters.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, StringConstraints

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE_BREAK = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def one_line(value: str) -> str:
    """Refuse line breaks and control characters: the value goes into a header or a title."""
    if _LINE_BREAK.search(value):
        raise ValueError("must be one line without control characters")
    return value


def plain_text(value: str) -> str:
    """Refuse control characters other than tab and line breaks."""
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters other than tab and line break")
    return value


def web_url(value: str) -> str:
    """An absolute http or https URL with a host and without a user name in it."""
    try:
        parts = urlsplit(value)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not port_is_fine
        or "@" in parts.netloc
        or not value.isascii()
        or re.search(r"[\s\x00-\x1f\x7f\\]", value)
    ):
        raise ValueError("must be a web address, like https://hooks.example.org/inbox")
    return value


def email_address(value: str) -> str:
    """An e-mail address in its normal form; whether the mailbox exists is not asked."""
    try:
        return validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("must be an e-mail address, like amina@example.org") from None


def base64url_bytes(value: str) -> bytes:
    """Decode base64url with or without padding; raises ValueError."""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64url") from None


def push_public_key(value: str) -> str:
    """A browser's P-256 public key: 65 bytes, uncompressed, as base64url."""
    raw = base64url_bytes(value)
    if len(raw) != 65 or raw[0] != 4:
        raise ValueError("must be an uncompressed P-256 public key (65 bytes) as base64url")
    return value


def push_secret(value: str) -> str:
    """A browser's authentication secret: 16 bytes as base64url."""
    if len(base64url_bytes(value)) != 16:
        raise ValueError("must be 16 bytes as base64url")
    return value


def _spelled(pattern: str, words: str) -> AfterValidator:
    """Check against a pattern, and say in words what it asks for."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


_ID = _spelled(r"[A-Za-z0-9][A-Za-z0-9._:-]*", "letters, digits and . _ : - only, like order-2209")

Tenant = Annotated[
    str,
    StringConstraints(max_length=63),
    _spelled(
        r"[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "lower-case letters, digits and hyphens, like riverside-clinics",
    ),
]
Id = Annotated[str, StringConstraints(max_length=128), _ID]
BatchId = Annotated[str, StringConstraints(max_length=120), _ID]
"""Shorter than an Id, since the batch's messages are called `<batch id>:<index>`."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(one_line)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(one_line)]
Body = Annotated[
    str, StringConstraints(min_length=1, max_length=65_536), AfterValidator(plain_text)
]
ShortBody = Annotated[
    str, StringConstraints(min_length=1, max_length=2_000), AfterValidator(plain_text)
]
Url = Annotated[str, StringConstraints(max_length=2_048), AfterValidator(web_url)]
Email = Annotated[str, StringConstraints(max_length=254), AfterValidator(email_address)]
PushPublicKey = Annotated[str, StringConstraints(max_length=88), AfterValidator(push_public_key)]
PushSecret = Annotated[str, StringConstraints(max_length=24), AfterValidator(push_secret)]
Variable = Annotated[str, StringConstraints(max_length=200), AfterValidator(one_line)]
VariableName = Annotated[
    str,
    StringConstraints(max_length=32),
    _spelled(r"[a-z][a-z0-9_]*", "lower-case letters, digits and underscores, like first_name"),
]
