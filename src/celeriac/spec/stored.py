"""Reads what is stored, which a newer version than this may have written.

Fields are only ever added, and the API server fills in their defaults wherever they are absent: one new field
stands in every stored resource at once. So a field that is not known here is passed over, and named. All else
is read as strictly as in a file: a value that is not known is refused, since nobody can guess what it means.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from pydantic import ValidationError

from celeriac.spec.errors import CeleriacError
from celeriac.spec.rules import SpecModel

M = TypeVar("M", bound=SpecModel)
FieldPath = tuple[str | int, ...]


class NotUnderstood(CeleriacError, ValueError):
    """What is stored cannot be used; ``ignored`` are fields that were passed over before that showed."""

    def __init__(self, error: ValidationError, ignored: tuple[FieldPath, ...]) -> None:
        super().__init__(str(error))
        self.error = error
        self.ignored = ignored


def read_stored(model: type[M], raw: Any) -> tuple[M, tuple[FieldPath, ...]]:
    """Parse; return the model, and the fields that were ignored. Raises NotUnderstood."""
    data, ignored = raw, tuple[FieldPath, ...]()
    while True:
        try:
            return model.model_validate(data, by_alias=True, by_name=False), ignored
        except ValidationError as error:
            details = error.errors(include_url=False)
            unknown = tuple(it["loc"] for it in details if it["type"] == "extra_forbidden")
            if not unknown:
                raise NotUnderstood(error, ignored) from error
        # What is left may break a rule over several fields, which shows only now: hence the loop.
        data = _without(data, unknown)
        ignored += unknown


def _without(data: Any, paths: tuple[FieldPath, ...]) -> Any:
    result = copy.deepcopy(data)
    for *outer, name in paths:
        inner = result
        for part in outer:
            inner = inner[part]
        del inner[name]
    return result
