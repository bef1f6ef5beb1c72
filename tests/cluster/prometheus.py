"""A real Prometheus (Debian's) inside a cluster's network, with the answers of its API."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from tests.cluster.cluster import Cluster
from tests.programs import program

PORT = 19090


class Prometheus:
    """One that scrapes targets every second and evaluates rules as often."""

    def __init__(
        self, cluster: Cluster, folder: Path, *, targets: Sequence[str], rules: Path
    ) -> None:
        """It cannot discover pods by itself (Debian leaves that out): ``targets`` are host:port."""
        self._cluster = cluster
        static = [{"targets": list(targets)}]
        scrape = {"job_name": "celeriac", "honor_labels": True, "static_configs": static}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [scrape],
            "rule_files": [str(rules)],
        }
        path = folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        self._command = [program("prometheus"), f"--config.file={path}", "--log.level=warn"]
        self._command += [f"--web.listen-address=127.0.0.1:{PORT}"]
        self._command += [f"--storage.tsdb.path={folder}/prometheus"]

    def __enter__(self) -> Self:
        self._cluster.processes.start("prometheus", self._command)
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.processes.stop("prometheus")

    def ask(self, path: str, **query: str) -> Any:
        """Ask its API. Raises OSError."""
        url = f"http://127.0.0.1:{PORT}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with self._cluster.namespace.entered(), urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def result(self, query: str) -> list[Any]:
        """The samples that a query has as its answer."""
        found: list[Any] = self.ask("query", query=query)["result"]
        return found

    def value(self, query: str) -> float:
        """The one number that a query has as its answer. Raises LookupError."""
        found = self.result(query)
        if len(found) != 1:
            raise LookupError(f"{query}: {found}")
        return float(found[0]["value"][1])

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """The labels of everything that fires, by alert."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def rules(self) -> list[Any]:
        """Its rules, with how their evaluation went."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
