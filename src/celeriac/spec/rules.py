"""The base of every declared model: strict, frozen, camelCase on the wire, with rules over fields.

A rule is written once, as a CEL expression for the API server beside the same condition in Python
for YAML files, so that both refuse the same things with the same words.

Attribute docstrings describe the fields; ``crd`` reads them from the source, so that a worker's start
does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition over several fields of one model."""

    cel: str
    """The condition for the API server, where ``self`` is the object."""
    holds: Callable[[Any], bool]
    """The same condition on the parsed model."""
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
        broken = [rule.message for rule in self.rules if not rule.holds(self)]
        if broken:
            raise PydanticCustomError("rule", "{text}", {"text": "; ".join(broken)})
        return self
