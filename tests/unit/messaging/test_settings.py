"""Settings: read from the environment, and errors that name the variable."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from celeriac_messaging.errors import ConfigurationError
from celeriac_messaging.settings import from_environment

KEY = b64encode(b"k" * 32).decode()


def test_nothing_is_required() -> None:
    settings = from_environment({})
    assert settings.data_dir == Path(".messaging")
    assert settings.allow_networks == ()
    assert from_environment({"MESSAGING_SMTP_PORT": ""}) == settings


def test_everything_can_be_set() -> None:
    settings = from_environment(
        {
            "MESSAGING_DATA_DIR": "/var/lib/messaging",
            "MESSAGING_ALLOW_NETWORKS": "127.0.0.0/8, fd00::/8",
            "MESSAGING_SMTP_PORT": "2525",
            "MESSAGING_SMTP_PASSWORD": "s3cr3t",
            "MESSAGING_MAIL_FROM": "post@riverside.example",
            "MESSAGING_WEBHOOK_SECRETS": f"whsec_{KEY},{b64encode(b'old' * 8).decode()}",
            "MESSAGING_VAPID_KEY": urlsafe_b64encode(b"v" * 32).decode().rstrip("="),
            "MESSAGING_VAPID_SUBJECT": "mailto:ops@riverside.example",
            "MESSAGING_KEYS": f"2026-05={KEY},2026-01={KEY}",
            "MESSAGING_DEMO": "1",
            "UNRELATED": "x",
        }
    )
    assert [str(network) for network in settings.allow_networks] == ["127.0.0.0/8", "fd00::/8"]
    assert [one.get_secret_value() for one in settings.webhook_secrets] == [b"k" * 32, b"old" * 8]
    assert list(settings.keys) == ["2026-05", "2026-01"]
    assert settings.demo
    assert "s3cr3t" not in repr(settings)
    assert "kkkk" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SMTP_PORT", "smtp", "valid integer"),
        ("SMTP_PORT", "70000", "less than or equal to 65535"),
        ("SMTP_SECURITY", "ssl", "'starttls', 'tls' or 'none'"),
        ("ALLOW_NETWORKS", "127.0.0.1/8", "must be networks, like 10.20.0.0/16"),
        ("WEBHOOK_SECRETS", "whsec_short", "must be whsec_<base64 of 24 to 64 bytes>"),
        ("VAPID_KEY", "AAAA", "must be a P-256 private key, 32 bytes as base64url"),
        ("VAPID_SUBJECT", "ops@example.org", "mailto:"),
        ("KEYS", "AAAA", "must be <key id>=<base64 of 32 bytes>"),
        ("KEYS", f"a={KEY},a={KEY}", "must be <key id>=<base64 of 32 bytes>"),
        ("MAIL_FROM", "riverside", "must be an e-mail address"),
        ("LOG_LEVEL", "verbose", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DEMO", "perhaps", "valid boolean"),
    ],
)
def test_an_error_names_the_variable_and_what_is_right(
    variable: str, value: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        from_environment({f"MESSAGING_{variable}": value})
    assert str(refusal.value).startswith(f"MESSAGING_{variable}: ")
    assert words in str(refusal.value)
    if variable not in ("ALLOW_NETWORKS", "LOG_LEVEL"):
        assert value not in str(refusal.value)


def test_several_errors_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        from_environment({"MESSAGING_SMTP_PORT": "0", "MESSAGING_DEDUP_SECONDS": "0"})
    assert "MESSAGING_SMTP_PORT" in str(refusal.value)
    assert "MESSAGING_DEDUP_SECONDS" in str(refusal.value)
