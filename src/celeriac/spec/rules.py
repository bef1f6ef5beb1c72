"""The base of every declared model: strict, frozen, camelCase on the wire, with rules over fields.

A rule is written once, as a CEL expression for the API server beside the same condition in Python
for YAML files, so that both refuse the same things with the same words.

Attribute docstrings describe the fields; ``crd`` reads them from the source, so that a worker's
start does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition over several fields of one model."""

    cel: str
    """The condition for the API server, where ``self`` is the object."""
    holds: Callable[[Any], bool] | None
    """The same condition on the parsed model; None where one object alone cannot show it."""
    message: str
    """What must hold, and what to do when it does not."""


class SpecModel(BaseModel):
    """A piece of a resource: unknown fields and other types are refused, as the API server does."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        strict=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        broken = [rule.message for rule in self.rules if rule.holds and not rule.holds(self)]
        if broken:
            raise PydanticCustomError("rule", "{text}", {"text": "; ".join(broken)})
        return self


class StatusModel(SpecModel):
    """A piece of a status. Unknown fields are passed over: another version may write them."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True)
class ListMap:
    """Marks a list whose items are told apart by one field, in Kubernetes as in files."""

    key: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._refuse_doubles, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            **handler(schema),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [self.key],
        }

    def _refuse_doubles(self, items: list[Any]) -> list[Any]:
        seen: set[str] = set()
        for item in items:
            value = getattr(item, self.key)
            if value in seen:
                text = (
                    f"every {self.key} must be given once, but {value!r} stands twice: rename one"
                )
                raise PydanticCustomError("rule", "{text}", {"text": text})
            seen.add(value)
        return items
