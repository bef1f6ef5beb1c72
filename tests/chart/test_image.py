"""The Dockerfile and the charts agree: who runs, and which commands there are."""

from __future__ import annotations

import importlib.util
import re
import tomllib

import yaml

from tests.chart.charts import CHARTS, ROOT, Helm, pods

TEXT = (ROOT / "Dockerfile").read_text()
#: Stage: what it is made from.
STAGES = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", TEXT, re.MULTILINE)}
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def root_of(stage: str) -> str:
    """The stage that a stage goes back to."""
    return root_of(STAGES[stage]) if STAGES[stage] in STAGES else stage


def test_every_stage_starts_from_the_base_that_a_user_names() -> None:
    assert re.search(r"^ARG BASE=", TEXT.partition("\nFROM ")[0], re.MULTILINE)
    outside = {base for base in STAGES.values() if base not in STAGES}
    assert outside == {"${BASE}"}


def test_without_a_target_it_is_the_platforms_image() -> None:
    assert [*STAGES][-1] == "celeriac"


def test_what_builds_stays_behind() -> None:
    built = {root_of(it) for it in re.findall(r"COPY --from=(\S+)", TEXT)}
    assert built == {"build"}
    for target in ("celeriac", "messaging"):
        assert root_of(target) == "base"


def test_it_runs_as_the_user_of_the_charts() -> None:
    users = re.findall(r"^USER (\d+):(\d+)$", TEXT, re.MULTILINE)
    values = yaml.safe_load((CHARTS / "celeriac/values.yaml").read_text())["podSecurityContext"]
    assert users == [(str(values["runAsUser"]), str(values["runAsGroup"]))]
    assert values["runAsUser"] > 0


def test_commands_of_the_charts_are_in_the_image(helm: Helm) -> None:
    values = {"valkey": {"enabled": True}}
    renderings = [*helm.render("celeriac", values), *helm.render("messaging")]
    commands = [it["command"] for _, spec in pods(renderings) for it in spec["containers"]]
    assert len(commands) == 4
    for program, *rest in commands:
        if program == "python3" and rest[0] == "-m":
            assert importlib.util.find_spec(rest[1])
        elif program == "sh":
            found = re.search(r"exec python3 -m (\S+)$", rest[-1])
            assert found
            assert importlib.util.find_spec(found[1])
        elif program != "python3":
            assert program in SCRIPTS, f"no script {program}"


def test_the_server_of_the_development_broker_is_in_the_image(helm: Helm) -> None:
    rendering = helm.render("celeriac", {"valkey": {"enabled": True}})
    code = next(
        container["command"][-1]
        for title, spec in pods(rendering)
        for container in spec["containers"]
        if title.startswith("StatefulSet")
    )
    compile(code, "valkey", "exec")
    module, name = re.findall(r"^from (\S+) import (\S+)$", code, re.MULTILINE)[0]
    assert callable(getattr(importlib.import_module(module), name))
