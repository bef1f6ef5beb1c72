"""The alerts: Prometheus' own tool checks and fires them, and each has a page that says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from celeriac.spec.conditions import Reason
from celeriac_operator.api import Api
from celeriac_operator.connection import login
from celeriac_operator.fence import Fence
from celeriac_operator.metrics import Metrics
from tests.chart.charts import CHARTS, ROOT, Helm, Object, find, merged
from tests.programs import program

FILE = CHARTS / "celeriac/files/alerts.yaml"
TESTS = yaml.safe_load((ROOT / "tests/chart/alerts_test.yaml").read_text())
RUNBOOKS = ROOT / "docs/runbooks"
RULES: dict[str, dict[str, Any]] = {
    it["alert"]: it for group in yaml.safe_load(FILE.read_text())["groups"] for it in group["rules"]
}
PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
#: Labels that Prometheus gives to whatever it scrapes.
TARGET = {"namespace", "job", "pod"}
GOLDEN = ROOT / "tests/unit/control/golden_metrics.txt"


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool")


def check(promtool: str, rules: Path) -> str:
    """Check a file of rules; empty when it is in order."""
    done = subprocess.run(
        [promtool, "check", "rules", rules], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def fire(promtool: str, folder: Path, rules: dict[str, dict[str, Any]]) -> str:
    """Run the tests of the alerts against some rules; empty when they pass."""
    group = {"name": "celeriac", "rules": [*rules.values()]}
    (folder / "rules.yaml").write_text(json.dumps({"groups": [group]}))
    (folder / "tests.yaml").write_text(json.dumps({**TESTS, "rule_files": ["rules.yaml"]}))
    done = subprocess.run(
        [promtool, "test", "rules", folder / "tests.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_rules_are_in_order(promtool: str) -> None:
    assert check(promtool, FILE) == ""


def test_each_alert_fires_when_it_should_and_not_when_it_only_looks_so(
    promtool: str, tmp_path: Path
) -> None:
    assert fire(promtool, tmp_path, RULES) == ""


def test_each_alert_is_tried_both_ways() -> None:
    fires: set[str] = set()
    calm: set[str] = set()
    for one in TESTS["tests"]:
        for it in one["alert_rule_test"]:
            assert len(it["exp_alerts"]) <= 1, "once, not once for each queue that is well"
            (fires if it["exp_alerts"] else calm).add(it["alertname"])
    assert fires == calm == RULES.keys()


def mutants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Alerts with one thing taken away, each of which is there for a reason."""
    for name, rule in RULES.items():
        yield f"{name} never", {**rule, "expr": f"({rule['expr']}) > 1e9"}
        if "for" in rule:
            yield f"{name} at once", {key: it for key, it in rule.items() if key != "for"}
        lines = rule["expr"].splitlines()
        for at, line in enumerate(lines):
            if line.startswith("and "):
                rest = "\n".join([*lines[:at], *lines[at + 1 :]])
                yield f"{name} without: {line}", {**rule, "expr": rest}


MUTANTS = dict(mutants())


@pytest.mark.parametrize("title", MUTANTS)
def test_no_part_of_an_alert_can_be_left_out(promtool: str, tmp_path: Path, title: str) -> None:
    changed = MUTANTS[title]
    said = fire(promtool, tmp_path, {**RULES, changed["alert"]: changed})
    assert f"alertname: {changed['alert']}" in said


def exported() -> dict[str, set[str]]:
    """Every series that is exported, with its labels."""
    found: dict[str, set[str]] = {}
    for line in GOLDEN.read_text().splitlines():
        name, kind, labels = line.split()
        for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(
            kind, ("",)
        ):
            found[name + suffix] = {*labels.split(",")} - {"-"}
    operators = Metrics(Api(login, fence=Fence()), version="0")
    for family in operators.registry.collect():
        for sample in family.samples:
            found[sample.name] = {*sample.labels}
    # The operator may serve several brokers, and resources that name one queue.
    found["mq_broker_up"].add("broker")
    found["mq_queue_condition"].add("resource")
    found["mq_autoscaler_replicas"].add("resource")
    return found


def selectors(text: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that an expression names, with the labels it picks them by."""
    for name, labels in re.findall(r"\b(mq_\w+)(?:\{([^}]*)\})?", text):
        yield name, set(re.findall(r"(\w+)\s*[=!]", labels))


def test_alerts_are_about_metrics_that_exist() -> None:
    known = exported()
    texts = [it["expr"] for it in RULES.values()]
    texts += [series["series"] for one in TESTS["tests"] for series in one["input_series"]]
    seen = [it for text in texts for it in selectors(text)]
    assert len(seen) > 40
    for name, labels in seen:
        assert name in known, f"nobody exports {name}"
        assert labels <= known[name] | TARGET, f"{name} has no {labels - known[name]}"


def test_a_metric_that_nobody_exports_is_noticed() -> None:
    assert "mq_jobs_finished" not in exported()
    assert {"mq_leader", "mq_reconcile_errors_total", "mq_job_run_seconds_count"} <= {*exported()}
    assert [*selectors('rate(mq_x{a="1",b!="2"}[5m]) > mq_y')] == [
        ("mq_x", {"a", "b"}),
        ("mq_y", set()),
    ]


@pytest.mark.parametrize("name", RULES)
def test_each_alert_has_its_page(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    path = ROOT / rule["annotations"]["runbook_url"]
    assert path == RUNBOOKS / f"{name}.md"
    page = path.read_text()
    assert page.startswith(f"# {name}\n")
    assert tuple(re.findall(r"^## (.+)$", page, re.MULTILINE)) == PARTS
    diagnosis = page.partition("## Diagnosis")[2].partition("## Mitigation")[0]
    assert "```sh" in diagnosis, "commands to paste"
    assert f"({name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_no_page_is_left_over() -> None:
    assert {it.stem for it in RUNBOOKS.glob("*.md")} - {"README"} == RULES.keys()


def test_reasons_for_being_stalled_are_those_of_the_code() -> None:
    page = (RUNBOOKS / "CeleriacQueueStalled.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {
        Reason.WORKERS_FAILING,
        Reason.INVALID_SPEC,
        Reason.QUEUE_TAKEN,
        Reason.OBJECT_TAKEN,
        Reason.BROKER_NOT_CONFIGURED,
        Reason.BROKER_EVICTS,
        Reason.KEDA_MISSING,
        Reason.REFUSED,
    }


def test_commands_of_the_pages_exist() -> None:
    known = set(
        re.findall(r"^## celeriac ?(.*)$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    )
    for path in RUNBOOKS.glob("*.md"):
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
            for line in re.findall(r"^celeriac (.+)$", block, re.MULTILINE):
                words = line.split()
                assert words[0] in known or " ".join(words[:2]) in known, f"{path.name}: {line}"


# --- in the chart -------------------------------------------------------------------------------


def rendered(helm: Helm, **values: Any) -> dict[str, dict[str, Any]]:
    """The alerts of a PrometheusRule."""
    own: Object = {"metrics": {"prometheusRule": {"enabled": True}}}
    over: Object = {"metrics": {"prometheusRule": values}}
    spec = find(helm.render("celeriac", merged(own, over)), "PrometheusRule")["spec"]
    return {it["alert"]: it for group in spec["groups"] for it in group["rules"]}


def test_the_chart_hands_on_the_file_as_it_is(helm: Helm, promtool: str, tmp_path: Path) -> None:
    found = rendered(helm)
    assert found == RULES
    assert fire(promtool, tmp_path, found) == ""


def test_the_chart_links_to_where_people_read(helm: Helm) -> None:
    found = rendered(helm, runbookUrl="https://git.example.com/docs/runbooks")
    assert {it["annotations"]["runbook_url"] for it in found.values()} == {
        f"https://git.example.com/docs/runbooks/{name}.md" for name in RULES
    }


def test_an_alert_can_be_changed_or_left_out(helm: Helm) -> None:
    changes = {
        "CeleriacQueueOld": {"for": "15m", "labels": {"team": "mail"}},
        "CeleriacWorkersLost": {"enabled": False},
    }
    found = rendered(helm, alerts=changes)
    old = found.pop("CeleriacQueueOld")
    assert (old["for"], old["labels"]) == ("15m", {"severity": "warning", "team": "mail"})
    assert old["expr"] == RULES["CeleriacQueueOld"]["expr"]
    assert RULES.keys() - found.keys() == {"CeleriacQueueOld", "CeleriacWorkersLost"}
