"""Reads MessageQueues from YAML, and says of every mistake where it is and what would be right.

    text -> nodes with line marks -> plain data + lines by path -> models

Files are read as kubectl reads them (YAML 1.1), so what is accepted here is accepted by a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from celeriac.spec.advice import advice
from celeriac.spec.errors import CeleriacError
from celeriac.spec.queue import API_VERSION, KIND, MessageQueue

FieldPath = tuple[str | int, ...]

_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file."""

    file: str
    line: int
    path: str
    """Path of the field in camelCase, such as spec.worker.app; empty for the whole document."""
    text: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {where}{self.text}"


class SpecError(CeleriacError, ValueError):
    """What is declared cannot be used. The text lists every problem, one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def load_queues(path: str | Path) -> list[MessageQueue]:
    """Read every MessageQueue of a file. Raises SpecError, also when the file cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SpecError([Problem(str(path), 0, "", f"cannot be read: {why}")]) from error
    except UnicodeDecodeError as error:
        raise SpecError([Problem(str(path), 0, "", "must be UTF-8 text")]) from error
    return parse_queues(text, file=str(path))


def parse_queues(text: str, *, file: str = "queues.yaml") -> list[MessageQueue]:
    """Read every MessageQueue of a text with any number of documents. Raises SpecError."""
    problems: list[Problem] = []
    queues: list[tuple[MessageQueue, int]] = []
    for document in _documents(text, file, problems):
        for data, path in _resources(document, file, problems):
            try:
                queue = MessageQueue.model_validate(data, by_alias=True, by_name=False)
                queues.append((queue, document.line(path)))
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    inner = tuple(part for part in detail["loc"] if part != "[key]")
                    problems.append(document.problem(path + inner, advice(detail, inner)))
    problems += _doubles(queues, file)
    if problems:
        raise SpecError(sorted(problems, key=lambda problem: problem.line))
    if not queues:
        raise SpecError([Problem(file, 1, "", f"must declare at least one {KIND}")])
    return [queue for queue, _ in queues]


@dataclass(frozen=True, slots=True)
class _Document:
    file: str
    data: Any
    lines: dict[FieldPath, int]

    def line(self, path: FieldPath) -> int:
        """The line of a field; of the nearest field around it when it is absent."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: FieldPath, text: str) -> Problem:
        return Problem(self.file, self.line(path), spell(path), text)


def spell(path: FieldPath) -> str:
    """Spell a path as people write it: spec.retry.byError[0].action."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _documents(text: str, file: str, problems: list[Problem]) -> Iterator[_Document]:
    loader = None
    try:
        loader = _Loader(text)
        while loader.check_node() and (node := loader.get_node()) is not None:
            reader = _Reader(file, loader, {}, problems)
            data = reader.read(node, ())
            if data is not None:
                yield _Document(file, data, reader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = error.problem or error.context or "not YAML"
        problems.append(Problem(file, mark.line + 1 if mark else 1, "", f"is not YAML: {why}"))
    except yaml.YAMLError as error:
        problems.append(Problem(file, 1, "", f"is not YAML: {' '.join(str(error).split())}"))
    finally:
        if loader is not None:
            loader.dispose()


def _resources(
    document: _Document, file: str, problems: list[Problem]
) -> Iterator[tuple[dict[str, Any], FieldPath]]:
    pending: list[tuple[Any, FieldPath]] = [(document.data, ())]
    while pending:
        data, path = pending.pop(0)
        if not isinstance(data, dict):
            text = f"must be a {KIND}: a map with apiVersion, kind, metadata and spec"
            problems.append(document.problem(path, text))
        elif data.get("kind") in ("List", f"{KIND}List"):
            items = data.get("items")
            if isinstance(items, list):
                pending += [(item, (*path, "items", n)) for n, item in enumerate(items)]
            else:
                problems.append(document.problem(path, f"items must be a list of {KIND}"))
        elif data.get("kind") != KIND:
            given = (
                f", not {data['kind']!r}" if "kind" in data else f" and apiVersion {API_VERSION}"
            )
            problems.append(document.problem((*path, "kind"), f"must be {KIND}{given}"))
        else:
            yield data, path


def _doubles(queues: list[tuple[MessageQueue, int]], file: str) -> Iterator[Problem]:
    names: dict[str, int] = {}
    on_broker: dict[str, str] = {}
    for queue, line in queues:
        if queue.name in names:
            text = f"{queue.name!r} is declared on line {names[queue.name]} already: rename one"
            yield Problem(file, line, "metadata.name", text)
        elif queue.queue_name in on_broker:
            text = (
                f"{on_broker[queue.queue_name]!r} has the queue {queue.queue_name!r} already:"
                " two resources must not share one"
            )
            yield Problem(file, line, "spec.queue", text)
        names.setdefault(queue.name, line)
        on_broker.setdefault(queue.queue_name, queue.name)


class _Loader(yaml.SafeLoader):
    """Reads scalars as JSON can hold them: a date stays text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(slots=True)
class _Reader:
    """Turns nodes into plain data and notes the line of every path."""

    file: str
    loader: _Loader
    lines: dict[FieldPath, int]
    problems: list[Problem]
    merged: set[int] = field(default_factory=set)
    """Maps whose merge keys are worked in: an alias leads to the same map again."""

    def read(self, node: yaml.Node, path: FieldPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply, or an alias holds itself")
        if isinstance(node, yaml.MappingNode):
            return self._map(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, n)) for n, item in enumerate(node.value)]
        return self.loader.construct_object(node)

    def _map(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        if id(node) not in self.merged:
            self._refuse_doubles(node, path)
            self.loader.flatten_mapping(node)
            self.merged.add(id(node))
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            data[key] = self.read(value_node, (*path, key))
        return data

    def _refuse_doubles(self, node: yaml.MappingNode, path: FieldPath) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = _key(key_node), key_node.start_mark.line + 1
            if key in first:
                text = f"is given twice, first on line {first[key]}: remove one"
                self.problems.append(Problem(self.file, line, spell((*path, key)), text))
            first.setdefault(key, line)


def _key(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "?"
