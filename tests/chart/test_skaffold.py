"""skaffold.yaml, as far as it can be held to the rest without Docker: images, charts, values, order.

Skaffold expands the templates of `setValueTemplates` with the repository, tag and digest of each image;
with no digest, as for images that are loaded into kind, it drops the `@` at the end.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from scripts.render_charts import values
from tests.chart.charts import CHARTS, ROOT, Helm, Object, find, merged, nested

CONFIG = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
ARTIFACTS: dict[str, Any] = {it["image"]: it["docker"] for it in CONFIG["build"]["artifacts"]}
RELEASES: dict[str, Any] = {it["name"]: it for it in CONFIG["deploy"]["helm"]["releases"]}
DIGEST = f"sha256:{'0c' * 32}"


def given(release: Object, *, digest: str = "") -> Object:
    """The values that Skaffold gives to a release."""
    known: dict[str, str] = {}
    for image in ARTIFACTS:
        name = re.sub(r"[/-]", "_", image)
        known |= {f"IMAGE_REPO_{name}": image, f"IMAGE_TAG_{name}": "a1b2c3d-dirty"}
        known[f"IMAGE_DIGEST_{name}"] = digest
    result: Object = {}
    for path, text in release.get("setValueTemplates", {}).items():
        value = re.sub(r"\{\{\.(\w+)\}\}", lambda it: known[it[1]], text).removesuffix("@")
        result = merged(result, nested(path, value))
    for path, value in release.get("setValues", {}).items():
        result = merged(result, nested(path, value))
    return result


def test_images_are_targets_of_the_dockerfile() -> None:
    assert ARTIFACTS.keys() == {"celeriac", "celeriac-messaging"}
    for docker in ARTIFACTS.values():
        stages = re.findall(
            r"^FROM .+ AS (\S+)$", (ROOT / docker["dockerfile"]).read_text(), re.MULTILINE
        )
        assert docker["target"] in stages


def test_the_resource_comes_first_then_the_operator_then_its_user() -> None:
    assert [*RELEASES] == ["celeriac-crds", "celeriac", "messaging"]
    assert "dependsOn" not in RELEASES["celeriac-crds"]
    assert RELEASES["celeriac"]["dependsOn"] == ["celeriac-crds"]
    assert RELEASES["messaging"]["dependsOn"] == ["celeriac"]
    assert RELEASES["celeriac"]["wait"] is True


def test_it_never_deploys_to_a_cluster_that_is_not_kind() -> None:
    assert CONFIG["deploy"]["kubeContext"].startswith("kind-")
    assert CONFIG["build"]["local"] == {"push": False}


@pytest.mark.parametrize("name", RELEASES)
def test_charts_and_their_values_exist(name: str) -> None:
    release = RELEASES[name]
    chart = ROOT / release["chartPath"]
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["name"] == name
    paths = {*release.get("setValueTemplates", {}), *release.get("setValues", {})}
    known = {it.path for it in values(chart)} if paths else set()
    assert paths <= known


@pytest.mark.parametrize("digest", ["", DIGEST])
def test_pods_run_the_images_that_were_built(helm: Helm, digest: str) -> None:
    suffix = f"@{digest}" if digest else ""
    operator = helm.render("celeriac", given(RELEASES["celeriac"], digest=digest))
    for kind in ("Deployment", "StatefulSet"):
        container = find(operator, kind)["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == f"celeriac:a1b2c3d-dirty{suffix}"
    messaging = helm.render("messaging", given(RELEASES["messaging"], digest=digest))
    queues = [it for it in messaging if it["kind"] == "MessageQueue"]
    images = {it["spec"]["worker"]["image"] for it in queues}
    assert images == {f"celeriac-messaging:a1b2c3d-dirty{suffix}"}


def test_its_messages_have_a_broker(helm: Helm) -> None:
    assert find(helm.render("celeriac", given(RELEASES["celeriac"])), "Secret")
    assert RELEASES["celeriac"]["namespace"] == RELEASES["messaging"]["namespace"]
    assert (CHARTS / "messaging").is_dir()
