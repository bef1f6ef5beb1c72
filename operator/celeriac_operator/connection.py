"""Where the API server is, and who we are there: the pod's service account, else a kubeconfig.

kopf and our own client both log in through here. The official client library is not used: it would be more
than all the rest of the image together, and everything we exchange is plain dictionaries anyway.
"""

from __future__ import annotations

import os
from pathlib import Path

import kopf

from celeriac.spec.errors import CeleriacError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoCluster(CeleriacError, RuntimeError):
    """Neither a service account nor a kubeconfig: there is no cluster to talk to."""


def login() -> kopf.ConnectionInfo:
    """Read the credentials as they are now: a service account's token is renewed on disk every hour."""
    found = _in_cluster() or kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    if found is None:
        raise NoCluster("no cluster: run as a pod with a service account, or set KUBECONFIG")
    return found


def _in_cluster() -> kopf.ConnectionInfo | None:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    token = ACCOUNT / "token"
    if not host or not token.exists():
        return None
    if ":" in host:
        host = f"[{host}]"
    return kopf.ConnectionInfo(
        # By address, as client-go does: what keeps the cluster running must not wait for its DNS.
        server=f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}",
        ca_path=str(ACCOUNT / "ca.crt"),
        token=token.read_text().strip(),
        priority=20,
    )
