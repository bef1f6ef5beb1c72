"""Installs the charts of a checkout, and what tests need beside them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.kubernetes import ledger
from tests.e2e.kubernetes.harness import APP, Platform
from tests.e2e.kubernetes.own import FIXED_ADDRESSES
from tests.e2e.kubernetes.sites import Site


def install(platform: Platform, checkout: Path, **more: str) -> None:
    """Install, or upgrade to, the charts of a checkout and the image of the platform.

    ``more`` are values of the operator's chart, with two underscores for a dot.
    """
    install_crds(platform, checkout)
    repository, _, tag = platform.image.rpartition(":")
    fixed = _fixed_addresses(platform.site).get(platform.namespace)
    values = {
        "image.repository": repository,
        "image.tag": tag,
        "valkey.enabled": "true",
        "valkey.persistence.enabled": "true",
        **({"valkey.clusterIP": fixed} if fixed else {}),
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    settings = [f"--set={name}={value}" for name, value in values.items()]
    wait = ("--create-namespace", "--wait", "--timeout=120s")
    chart = str(checkout / "charts/celeriac")
    platform.helm("upgrade", "--install", "celeriac", chart, *wait, *settings)


def _fixed_addresses(site: Site) -> dict[str, str]:
    """The brokers' addresses that a cluster's name server takes for given; none where it is a real one."""
    look = ("get", "service", "-n", "kube-system", "kube-dns", "--ignore-not-found", "-o", "json")
    found = site.kubectl(*look)
    annotations = json.loads(found)["metadata"].get("annotations", {}) if found.strip() else {}
    return dict(json.loads(annotations.get(FIXED_ADDRESSES, "{}")))


def install_crds(platform: Platform, checkout: Path) -> None:
    """Install, or upgrade to, the CRDs of a checkout: one release for all namespaces."""
    one = ("--namespace=celeriac", "--create-namespace")
    chart = str(checkout / "charts/celeriac-crds")
    platform.helm("upgrade", "--install", "celeriac-crds", chart, *one)


def furnish(platform: Platform) -> None:
    """Give a namespace the app of these tests, and a ledger."""
    app = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "e2e-app"},
        "data": {APP.name: APP.read_text()},
    }
    platform.apply(app, *ledger.manifest(platform.image))
    platform.kubectl("wait", "--for=condition=Ready", f"pod/{ledger.NAME}", "--timeout=60s")
