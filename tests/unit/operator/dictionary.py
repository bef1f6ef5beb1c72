"""The API server as a dictionary: it stores and serves objects, notes every write, and fails when told to.

It stands below ``Api.request``, so that paths, verbs, content types, pages and the fence are the operator's
own. It judges nothing: no schema, no field managers, no controllers. What only the real one can say is asked
in tests/api.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kopf

from celeriac_operator import kinds
from celeriac_operator.api import APPLY, MERGE, Api, ApiError, Kind
from celeriac_operator.fence import Fence

Object = dict[str, Any]
Where = tuple[str, str, str]

NOW = "2026-01-31T09:30:00Z"
_KEDA = (kinds.SCALED_OBJECTS, kinds.AUTHENTICATIONS)


@dataclass(frozen=True)
class Write:
    """A request that would change something, as it came in."""

    verb: str
    plural: str
    namespace: str
    name: str
    sub: str
    body: Object
    manager: str
    forced: bool

    @property
    def what(self) -> str:
        """In one line: PATCH deployments/scale mail."""
        kind = f"{self.plural}/{self.sub}" if self.sub else self.plural
        return f"{self.verb} {kind} {self.name}"


@dataclass
class Failure:
    """What is answered in place of the truth."""

    matches: Callable[[str], bool]
    error: ApiError
    left: float


class Dictionary(Api):
    """Objects by plural, namespace and name."""

    def __init__(self, fence: Fence) -> None:
        super().__init__(_nobody, fence=fence)
        self.objects: dict[Where, Object] = {}
        self.asked: list[str] = []
        self.writes: list[Write] = []
        self.failures: list[Failure] = []
        self.keda = False
        self.missing: set[str] = set()
        """Plurals of kinds that the cluster does not have."""
        self.before: Callable[[str], None] = lambda what: None
        """Called before a request is answered: what happens in the meantime."""
        self._numbers = itertools.count(1)

    # --- for tests ------------------------------------------------------------------------------

    def put(self, kind: Kind, raw: Object) -> Object:
        """Store an object as somebody else would, with a version of its own."""
        body = copy.deepcopy(raw)
        meta = body.setdefault("metadata", {})
        where = (kind.plural, meta.get("namespace", ""), meta["name"])
        body.setdefault("kind", kind.name)
        stored = self._store(where, body, self.objects.get(where))
        self.objects[where] = copy.deepcopy(stored)  # also if it is going
        return stored

    def find(self, kind: Kind, name: str, *, namespace: str = "shop") -> Object | None:
        """What is stored."""
        return copy.deepcopy(self.objects.get((kind.plural, namespace, name)))

    def fail(
        self,
        part: str = "",
        *,
        status: int = 503,
        reason: str = "ServiceUnavailable",
        message: str = "try again",
        times: float = float("inf"),
    ) -> None:
        """Refuse requests whose line (``PATCH deployments/scale mail``) holds this text."""
        error = ApiError(status, reason, message)
        self.failures.append(Failure(lambda what: part in what, error, times))

    def written(self) -> list[str]:
        """The lines of all writes since this was asked last."""
        lines = [it.what for it in self.writes]
        self.writes.clear()
        return lines

    # --- the server -----------------------------------------------------------------------------

    def request(
        self,
        verb: str,
        path: str,
        body: Object | None = None,
        *,
        content: str = "application/json",
        timeout: float = 5.0,
    ) -> Object:
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        base, rest = ("/".join(parts[:2]), parts[2:])
        if parts[0] == "apis":
            base, rest = "/".join(parts[:3]), parts[3:]
        if not rest:
            return self._discover(base)
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, "", "")[:3]
        name = name or (body or {}).get("metadata", {}).get("name", "")
        write = Write(
            *(verb, plural, namespace, name, sub, copy.deepcopy(body or {})),
            manager=query.get("fieldManager", ""),
            forced=query.get("force") == "true",
        )
        self.requests[verb, "200"] += 1
        self.asked.append(write.what)
        self.before(write.what)
        if verb != "GET":
            self.writes.append(write)
        self._fail(write.what)
        if plural in self.missing or (plural in {it.plural for it in _KEDA} and not self.keda):
            raise ApiError(404, "NotFound", f"the server could not find {plural}")
        where = (plural, namespace, name)
        match verb, content:
            case "GET", _:
                answer = self._get(where) if name else self._page(plural, namespace, query)
            case "POST", _:
                answer = self._create(where, write.body)
            case "PUT", _:
                answer = self._replace(where, write.body)
            case "PATCH", "application/apply-patch+yaml":
                answer = self._apply(where, sub, write.body)
            case "PATCH", "application/merge-patch+json":
                answer = self._merge(where, sub, write.body)
            case "DELETE", _:
                answer = self._delete(where, write.body)
            case _:
                raise AssertionError(f"{verb} with {content}")
        return copy.deepcopy(answer)

    def _fail(self, what: str) -> None:
        for failure in self.failures:
            if failure.left > 0 and failure.matches(what):
                failure.left -= 1
                raise failure.error

    def _discover(self, base: str) -> Object:
        self.asked.append(f"GET {base}")
        self._fail(f"GET {base}")
        if not self.keda:
            raise ApiError(404, "NotFound", f"the server could not find {base}")
        return {"resources": [{"name": it.plural} for it in _KEDA]}

    def _get(self, where: Where) -> Object:
        if where not in self.objects:
            raise ApiError(404, "NotFound", f"{where[0]} {where[2]!r} not found")
        return self.objects[where]

    def _page(self, plural: str, namespace: str, query: Mapping[str, str]) -> Object:
        label = query.get("labelSelector", "")
        found = [
            it
            for where, it in sorted(self.objects.items())
            if where[0] == plural
            and namespace in ("", where[1])
            and (not label or label in it["metadata"].get("labels", {}))
        ]
        begin, limit = int(query.get("continue", 0)), int(query["limit"])
        more = {"continue": str(begin + limit)} if begin + limit < len(found) else {}
        return {"items": found[begin : begin + limit], "metadata": more}

    def _create(self, where: Where, body: Object) -> Object:
        if where in self.objects:
            raise ApiError(409, "AlreadyExists", f"{where[0]} {where[2]!r} already exists")
        return self._store(where, body, None)

    def _replace(self, where: Where, body: Object) -> Object:
        before = self._get(where)
        self._must_be(before, body["metadata"])
        return self._store(where, body, before)

    def _apply(self, where: Where, sub: str, body: Object) -> Object:
        before = self.objects.get(where)
        if before is None and "uid" in body["metadata"]:
            raise ApiError(409, "Conflict", "Precondition failed: UID in precondition")
        self._must_be(before, body["metadata"])
        if sub == "status":
            return self._store(where, {**self._get(where), "status": body["status"]}, before)
        return self._store(where, _merged(before or {}, body), before)

    def _merge(self, where: Where, sub: str, body: Object) -> Object:
        before = self._get(where)
        self._must_be(before, body.get("metadata", {}))
        return self._store(where, _merged(before, body), before)

    def _delete(self, where: Where, options: Object) -> Object:
        before = self._get(where)
        self._must_be(before, options.get("preconditions", {}))
        if before["metadata"].get("finalizers"):
            gone = {"deletionTimestamp": before["metadata"].get("deletionTimestamp", NOW)}
            return self._store(where, _merged(before, {"metadata": gone}), before)
        return self.objects.pop(where)

    def _must_be(self, before: Object | None, meta: Mapping[str, Any]) -> None:
        for name in ("uid", "resourceVersion"):
            if (
                before is not None
                and meta.get(name, before["metadata"][name]) != (before["metadata"][name])
            ):
                raise ApiError(409, "Conflict", f"the {name} is another one now")

    def _store(self, where: Where, body: Object, before: Object | None) -> Object:
        meta = dict(body["metadata"])
        number = next(self._numbers)
        if before is None:
            meta.setdefault("uid", f"uid-{where[0]}-{where[2]}-{number}")
            meta.setdefault("creationTimestamp", NOW)
            meta["generation"] = meta.get("generation", 1)
        elif before.get("spec") != body.get("spec"):
            meta["generation"] = before["metadata"].get("generation", 1) + 1
        meta |= {"name": where[2], "namespace": where[1], "resourceVersion": str(number)}
        stored = {**body, "metadata": meta}
        if where[0] == kinds.SECRETS.plural:
            texts: Mapping[str, str] = stored.pop("stringData", {})
            data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
            stored["data"] = {**stored.get("data", {}), **data}
        finalized = "deletionTimestamp" in meta and not meta.get("finalizers")
        if finalized:
            self.objects.pop(where, None)
        else:
            self.objects[where] = copy.deepcopy(stored)
        return stored


def _merged(before: Any, over: Any) -> Any:
    """As a merge patch: maps by key, null removes, all else is replaced."""
    if not isinstance(before, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    laid = {name: _merged(before.get(name), it) for name, it in over.items() if it is not None}
    kept = {name: it for name, it in before.items() if name not in over}
    return copy.deepcopy({**kept, **laid})


def _nobody() -> kopf.ConnectionInfo:
    raise AssertionError("nothing here goes over the network")


assert (APPLY, MERGE) == ("application/apply-patch+yaml", "application/merge-patch+json")
