"""Configuration from the environment, all of it named ``MESSAGING_…``.

A setting that cannot be read stops the start with the variable's name and what would be right. A
setting that only some jobs need (mail sender, VAPID key, …) may be missing: those jobs then fail
with its name, the others run.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
)

from celeriac_messaging.errors import ConfigurationError
from celeriac_messaging.payloads.fields import Email, Name, base64url_bytes

PREFIX = "MESSAGING_"
Network = IPv4Network | IPv6Network
T = TypeVar("T")


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(part) for part in _parts(value))
    except ValueError:
        raise ValueError("must be networks, like 10.20.0.0/16,fd00::/8") from None


def _webhook_secrets(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        raw = [base64.b64decode(p.removeprefix("whsec_"), validate=True) for p in _parts(value)]
    except binascii.Error:
        raw = []
    if not raw or any(not 24 <= len(one) <= 64 for one in raw):
        raise ValueError("must be whsec_<base64 of 24 to 64 bytes>, the newest first")
    return tuple(SecretBytes(one) for one in raw)


def _keys(value: object) -> object:
    if not isinstance(value, str):
        return value
    keys: dict[str, SecretBytes] = {}
    for part in _parts(value):
        key_id, _, text = part.partition("=")
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if not key_id or key_id in keys or len(key) != 32:
            raise ValueError("must be <key id>=<base64 of 32 bytes>, the current key first")
        keys[key_id] = SecretBytes(key)
    return keys


def _vapid(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        raw = base64url_bytes(value)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be a P-256 private key, 32 bytes as base64url")
    return SecretBytes(raw)


class Settings(BaseModel):
    """Every setting; the variable is the field's name in capitals after ``MESSAGING_``."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    data_dir: Path = Path(".messaging")
    request_timeout_seconds: int = Field(default=15, ge=1, le=120)
    allow_networks: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = ()
    """Private networks that webhooks and push may call all the same; also without TLS."""
    smtp_host: Name = "127.0.0.1"
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: Name | None = None
    smtp_password: SecretStr | None = None
    mail_from: Email | None = None
    webhook_secrets: Annotated[tuple[SecretBytes, ...], BeforeValidator(_webhook_secrets)] = ()
    vapid_key: Annotated[SecretBytes | None, BeforeValidator(_vapid)] = None
    vapid_subject: Annotated[str, Field(pattern=r"^(mailto:|https://).", max_length=254)] | None = (
        None
    )
    keys: Annotated[dict[str, SecretBytes], BeforeValidator(_keys)] = Field(default_factory=dict)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    dedup_seconds: int = Field(default=86_400, ge=1, le=31 * 86_400)
    demo: bool = False


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; an empty variable counts as unset. Raises ConfigurationError."""
    environ = os.environ if environ is None else environ
    given: dict[str, Any] = {}
    for field in Settings.model_fields:
        if value := environ.get(PREFIX + field.upper(), ""):
            given[field] = value
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines: dict[str, str] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        message = one["msg"].removeprefix("Value error, ")
        variable = PREFIX + str(one["loc"][0]).upper()
        lines.setdefault(variable, message[0].lower() + message[1:])
    return "; ".join(f"{variable}: {message}" for variable, message in lines.items())


def needed(value: T | None, variable: str, purpose: str) -> T:
    """The value of an optional setting, or a ConfigurationError that names the variable."""
    if value is None or value == ():
        raise ConfigurationError(f"{PREFIX}{variable} is not set: {purpose}")
    return value
