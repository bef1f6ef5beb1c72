"""The operator's settings: from the environment, and wrong ones are named."""

from __future__ import annotations

import pytest

from celeriac_operator.settings import Settings, SettingsError


def test_the_defaults_stand_without_any_variable() -> None:
    found = Settings.from_environment({"HOSTNAME": "operator-1"})
    assert found.identity == "operator-1"
    assert (found.lease_duration, found.resync, found.watch_namespaces) == (10, 300, ())


def test_variables_are_read() -> None:
    found = Settings.from_environment(
        {
            "CELERIAC_OPERATOR_WATCH_NAMESPACES": "shop, mail,",
            "CELERIAC_OPERATOR_HTTP_PORT": "0",
            "CELERIAC_OPERATOR_NETWORK_POLICY": "true",
            "CELERIAC_OPERATOR_IDENTITY": "me",
        }
    )
    assert found.watch_namespaces == ("shop", "mail")
    assert (found.http_port, found.network_policy, found.identity) == (0, True, "me")


def test_every_wrong_variable_is_named() -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment(
            {"CELERIAC_OPERATOR_WORKERS": "many", "CELERIAC_OPERATOR_LEASE_DURATION": "1"}
        )
    assert "CELERIAC_OPERATOR_WORKERS: " in str(refusal.value)
    assert "CELERIAC_OPERATOR_LEASE_DURATION: " in str(refusal.value)
