"""The operator's settings, from environment variables that the chart sets (CELERIAC_OPERATOR_...)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from celeriac.spec.errors import CeleriacError

PREFIX = "CELERIAC_OPERATOR_"


class SettingsError(CeleriacError, ValueError):
    """A setting that cannot be used; the text names the variable."""


class Settings(BaseModel):
    """How the operator runs. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="default", description="Where the operator itself runs.")
    watch_namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces to look after, comma-separated; empty: all."
    )
    identity: str = Field(default="", description="Name of this replica in the Lease; unique.")
    lease_name: str = Field(default="celeriac-operator", description="Name of the Lease.")
    lease_duration: int = Field(
        default=10, ge=3, description="A silent leader is replaced after this."
    )
    broker_secret: str = Field(
        default="celeriac-broker",
        description="Secret with the broker's URL for queues that name none.",
    )
    broker_secret_key: str = Field(default="url", description="Its key.")
    image: str = Field(default="", description="Image of workers whose queue names none.")
    network_policy: bool = Field(
        default=False, description="Also make a NetworkPolicy for each queue."
    )
    http_host: str = Field(
        default="0.0.0.0",  # noqa: S104  # probes and Prometheus come from other pods
        description="Address of /livez, /readyz and /metrics.",
    )
    http_port: int = Field(default=8080, ge=0, le=65535, description="Port of the same.")
    workers: int = Field(default=4, ge=1, le=64, description="Queues that are worked on at once.")
    resync: int = Field(default=300, ge=10, description="Everything is looked at again after this.")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings. Raises SettingsError naming every wrong variable."""
        source = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for name in cls.model_fields:
            text = source.get(PREFIX + name.upper())
            if text is not None:
                given[name] = _listed(text) if name == "watch_namespaces" else text
        given.setdefault("identity", source.get("HOSTNAME", "") or f"operator-{os.getpid()}")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            wrong = "; ".join(
                f"{PREFIX}{str(it['loc'][0]).upper()}: {it['msg']}" for it in error.errors()
            )
            raise SettingsError(wrong) from error


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
