"""Bounded kinds of text, each with a pattern and the words that explain it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_QUEUE: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_DOTTED: Final = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
_APP: Final = (
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
    r"(:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)?$"
)
_SOLID: Final = r"^[^\s]+$"
_SOLID_OR_EMPTY: Final = r"^[^\s]*$"
_ENV: Final = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
_ENV_PREFIX: Final = r"^([A-Za-z_][A-Za-z0-9_.-]*)?$"
_KEY: Final = r"^[A-Za-z0-9._-]+$"
_CRON: Final = r"^[0-9A-Z*,/#-]+( [0-9A-Z*,/#-]+){4}$"
_ZONE: Final = r"^[A-Za-z][A-Za-z0-9_+/-]*$"
_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_CAMEL: Final = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

#: What a value must look like, for the reader of an error; found by the pattern it failed.
PATTERN_HELP: Final[dict[str, str]] = {
    _NAME: "must be lower-case letters, digits and hyphens, such as message-delivery",
    _SUBDOMAIN: "must be lower-case letters, digits, hyphens and dots, such as broker-url",
    _QUEUE: "must be letters, digits, dots, underscores and hyphens, such as message-delivery",
    _DOTTED: "must be a class name such as TimeoutError or smtplib.SMTPException",
    _APP: "must be a module, or module:attribute, such as shop.celery:app",
    _SOLID: "must not contain spaces",
    _SOLID_OR_EMPTY: "must not contain spaces",
    _ENV: "must be the name of an environment variable, such as SMTP_HOST",
    _ENV_PREFIX: "must be the beginning of a variable's name, such as SMTP_",
    _KEY: "must be letters, digits, dots, underscores and hyphens, such as url",
    _CRON: "must be five cron fields separated by single spaces, such as 0 3 * * MON",
    _ZONE: "must be the name of a time zone, such as Europe/Berlin",
    _QUANTITY: "must be a Kubernetes quantity, such as 500m or 256Mi",
    _CAMEL: "must be CamelCase, such as WorkersFailing",
    _TIME: "must be a UTC time, such as 2026-01-31T09:30:00Z",
}


_LONGEST_QUEUE_NAME: Final = 128


def must_be_queue_name(name: str) -> None:
    """Raise ValueError for what no MessageQueue may have for its `queue`, at doors that read no file."""
    if not re.fullmatch(_QUEUE, name):
        raise ValueError(f"queue {name!r}: {PATTERN_HELP[_QUEUE]}")
    if len(name) > _LONGEST_QUEUE_NAME:
        raise ValueError(
            f"queue {name[:20]!r}...: must be up to {_LONGEST_QUEUE_NAME} characters long"
        )


@dataclass(frozen=True, slots=True)
class IntOrString:
    """Marks what Kubernetes writes as a whole number or as text: one finding, whatever is wrong."""

    pattern: str
    max_length: int

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "minimum": 0,
            "maxLength": self.max_length,
            "pattern": self.pattern,
            "x-kubernetes-int-or-string": True,
        }

    def _check(self, value: Any) -> int | str:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        text = isinstance(value, str) and len(value) <= self.max_length
        if whole or (text and re.match(self.pattern, value)):
            result: int | str = value
            return result
        quoted = (
            f'; put it in quotes: "{value}"' if isinstance(value, float) else f", not {value!r}"
        )
        message = f"{PATTERN_HELP[self.pattern]}{quoted}"
        raise PydanticCustomError("rule", "{text}", {"text": message})


ResourceName = Annotated[str, Field(min_length=1, max_length=47, pattern=_NAME)]
NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=_NAME)]
ScheduleName = Annotated[str, Field(min_length=1, max_length=47, pattern=_NAME)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
QueueName = Annotated[str, Field(min_length=1, max_length=_LONGEST_QUEUE_NAME, pattern=_QUEUE)]
ErrorName = Annotated[str, Field(min_length=1, max_length=200, pattern=_DOTTED)]
AppPath = Annotated[str, Field(min_length=1, max_length=200, pattern=_APP)]
Image = Annotated[str, Field(max_length=512, pattern=_SOLID_OR_EMPTY)]
TaskName = Annotated[str, Field(min_length=1, max_length=255, pattern=_SOLID)]
EnvName = Annotated[str, Field(min_length=1, max_length=128, pattern=_ENV)]
EnvPrefix = Annotated[str, Field(max_length=64, pattern=_ENV_PREFIX)]
KeyName = Annotated[str, Field(min_length=1, max_length=253, pattern=_KEY)]
CronText = Annotated[str, Field(max_length=100, pattern=_CRON)]
ZoneName = Annotated[str, Field(min_length=1, max_length=64, pattern=_ZONE)]
Quantity = Annotated[int | str, IntOrString(pattern=_QUANTITY, max_length=32)]
CamelCase = Annotated[str, Field(min_length=1, max_length=128, pattern=_CAMEL)]
UtcTime = Annotated[str, Field(max_length=20, pattern=_TIME)]
