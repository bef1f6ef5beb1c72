"""What is written to the cluster, and read from it."""

from tests.mutants.table import Edit

_BACKEND = "operator/celeriac_operator/backend.py"
_APPLY = "operator/celeriac_operator/apply.py"
_SECRETS = "operator/celeriac_operator/secrets.py"
_FENCE = "operator/celeriac_operator/fence.py"
_API = "operator/celeriac_operator/api.py"
_LEASE = "operator/celeriac_operator/lease.py"
_RESOURCES_NAMES = "operator/celeriac_operator/resources/names.py"
_RESOURCES_DEPLOYMENT = "operator/celeriac_operator/resources/deployment.py"
_RESOURCES_OVERLAY = "operator/celeriac_operator/resources/overlay.py"
_WORLD = "operator/celeriac_operator/world.py"
_FLEET = "operator/celeriac_operator/fleet.py"

EDITS = (
    Edit(
        "never scales",
        _BACKEND,
        "            self._set_replicas(seen, replicas)\n\n",
        "            pass\n\n",
    ),
    Edit(
        "scales the wrong subresource",
        _BACKEND,
        'manager=names.SCALER, sub="scale")',
        'manager=names.SCALER, sub="status")',
    ),
    Edit(
        "replicas belong to the wrong manager",
        _BACKEND,
        'manager=names.SCALER, sub="scale")',
        'manager=names.MANAGER, sub="scale")',
    ),
    Edit(
        "never applies a Deployment",
        _BACKEND,
        "        self._applier.ensure(kinds.DEPLOYMENTS, body, seed=first)\n",
        "        pass\n",
    ),
    Edit(
        "no ConfigMap is made",
        _BACKEND,
        "        self._applier.ensure(kinds.CONFIG_MAPS, config_map(queue))\n",
        "        pass\n",
    ),
    Edit(
        "scales while KEDA holds on to it",
        _BACKEND,
        "if seen is None or self._world.child(kinds.SCALED_OBJECTS, *key_of(queue)) is not None:",
        "if seen is None:",
    ),
    Edit(
        "fights with an autoscaler",
        _BACKEND,
        '        if mode == "HPA":',
        '        if mode == "HPAs":',
    ),
    Edit(
        "busy workers go first",
        _BACKEND,
        "costs(pods.values(), held(heard)).items()",
        "costs(pods.values(), {}).items()",
    ),
    Edit(
        "all pods are hurried", _BACKEND, "            if pod.deleting:\n", "            if True:\n"
    ),
    Edit(
        "a pod of that name is hurried, whichever",
        _BACKEND,
        '"preconditions": {"uid": pod.uid}',
        "**{}",
    ),
    Edit(
        "the Deployment stays when its queue goes",
        _BACKEND,
        '            (kinds.DEPLOYMENTS, ""),\n',
        "",
    ),
    Edit(
        "somebody else's Deployment is taken for ours",
        _BACKEND,
        "return seen if seen is not None and seen.owner == queue.metadata.uid else None",
        "return seen",
    ),
    Edit(
        "an obstacle is forgotten",
        _BACKEND,
        "                    self._obstacles[key] = obstacle\n",
        "                    pass\n",
    ),
    Edit(
        "an obstacle is remembered for ever",
        _BACKEND,
        "                self._obstacles.pop(key, None)  # whatever else is wrong now, it is not that\n",
        "",
    ),
    Edit(
        "lost workers are told for ever",
        _BACKEND,
        "self._acknowledged.setdefault(key_of(queue), set()).update(workers)",
        "pass",
    ),
    Edit(
        "the Secret is not copied",
        _BACKEND,
        "            self._applier.ensure_secret(body)\n",
        "            pass\n",
    ),
    Edit(
        "an HPA gets nothing to scale",
        _BACKEND,
        "    return min(scaling.max_replicas, max(1, scaling.min_replicas, queue.spec.replicas))",
        "    return 0",
    ),
    Edit(
        "apply is skipped once an object is there",
        _APPLY,
        "                seen.rendered == stamp\n                and",
        "                True\n                and",
    ),
    Edit(
        "what others change stays",
        _APPLY,
        "                and seen.essence == known.essence\n",
        "",
    ),
    Edit(
        "nothing is verified after a start",
        _APPLY,
        "                and self._now() < known.verify_at\n",
        "",
    ),
    Edit(
        "foreign objects are overwritten",
        _APPLY,
        '        if controller(found["metadata"]) != controller(meta):\n            raise Blocked(_taken(kind, meta))\n        if "deletion',
        '        if "deletion',
    ),
    Edit(
        "foreign Secrets are overwritten",
        _APPLY,
        '            if found is not None and controller(found["metadata"]) != controller(meta):',
        "            if False:",
    ),
    Edit(
        "foreign objects are deleted",
        _APPLY,
        "if seen is not None and seen.owner == owner and not seen.deleting:",
        "if seen is not None and not seen.deleting:",
    ),
    Edit(
        "whatever bears the name is deleted",
        _APPLY,
        '            body = {"preconditions": {"uid": seen.uid}}',
        "            body: Object = {}",
    ),
    Edit(
        "a refusal is tried again at once",
        _APPLY,
        "if known is not None and known.stamp == stamp and self._now() < known.until:",
        "if False:",
    ),
    Edit(
        "a refusal is believed for ever",
        _APPLY,
        "known.stamp == stamp and self._now() < known.until",
        "known.stamp == stamp",
    ),
    Edit(
        "a refusal is no obstacle",
        _APPLY,
        "    if error.status in _FINAL or _UNTYPED in str(error):",
        "    if error.status == 400:",
    ),
    Edit(
        "a namespace that goes is an obstacle",
        _APPLY,
        '    if "being terminated" in str(error):',
        "    if False:",
    ),
    Edit(
        "an object that goes is applied to",
        _APPLY,
        '        if "deletionTimestamp" in found["metadata"]:',
        "        if False:",
    ),
    Edit(
        "objects are created anew from an old view",
        _APPLY,
        '                wanted["metadata"]["uid"] = mine.uid  # never create it anew from here',
        "                pass",
    ),
    Edit(
        "a Secret is read once",
        _SECRETS,
        "            if self._now() - known.at < fresh:",
        "            if fresh:",
    ),
    Edit(
        "the fence is always open",
        _FENCE,
        "return not self._closed and self._now() < self._until",
        "return not self._closed",
    ),
    Edit(
        "a closed fence opens again",
        _FENCE,
        "return not self._closed and self._now() < self._until",
        "return self._now() < self._until",
    ),
    Edit(
        "writes ignore the fence",
        _API,
        "        self._fence.check()\n        return self.request(verb",
        "        return self.request(verb",
    ),
    Edit(
        "the lease is never renewed",
        _LEASE,
        "        try:\n            self._take()\n",
        "        try:\n            self._take() if not self.leading.is_set() else None\n",
    ),
    Edit(
        "the lease is taken from who renews it",
        _LEASE,
        "return Take() if left <= 0 else Wait(min(duration_s / 10, left))",
        "return Take()",
    ),
    Edit(
        "the fence outlives the lease",
        _LEASE,
        "self._fence.open_until(began + self._limit_s)",
        "self._fence.open_until(began + 10 * self._duration_s)",
    ),
    Edit(
        "who lost the lease leads on",
        _LEASE,
        '                self._lose("somebody else holds it")\n',
        "                pass\n",
    ),
    Edit(
        "a lease not renewed in time is kept",
        _LEASE,
        '                self._lose("it could not be renewed in time")\n                return\n',
        "                return\n",
    ),
    Edit(
        "the lease is not given back",
        _LEASE,
        '"holderIdentity": "", "leaseDurationSeconds": 1}',
        '"leaseDurationSeconds": 1}',
    ),
    Edit(
        "objects belong to nobody",
        _RESOURCES_NAMES,
        '                "controller": True,',
        '                "controller": False,',
    ),
    Edit(
        "objects belong to another resource",
        _RESOURCES_NAMES,
        '"uid": queue.metadata.uid,',
        '"uid": queue.metadata.name,',
    ),
    Edit(
        "a new password starts no new workers",
        _RESOURCES_DEPLOYMENT,
        '        "celeriac.dev/broker": broker.digest,\n',
        "",
    ),
    Edit(
        "new options start no new workers",
        _RESOURCES_DEPLOYMENT,
        '        "celeriac.dev/options": digest(config_map.options(queue)),\n',
        "",
    ),
    Edit(
        "a Deployment declares replicas",
        _RESOURCES_DEPLOYMENT,
        '            "selector": {"matchLabels": names.selector(queue)},\n            # A new worker',
        '            "replicas": 0,\n            "selector": {"matchLabels": names.selector(queue)},\n            # A new worker',
    ),
    Edit(
        "the grace ends before the drain",
        _RESOURCES_DEPLOYMENT,
        "worker.drain_seconds + GRACE_SECONDS",
        "GRACE_SECONDS",
    ),
    Edit(
        "two mounts of one volume are one",
        _RESOURCES_OVERLAY,
        '"volumeMounts": ("mountPath",)',
        '"volumeMounts": ("name",)',
    ),
    Edit(
        "old news replaces new",
        _WORLD,
        "if before is not None and before.uid == seen.uid and before.version >= seen.version:",
        "if False:",
    ),
    Edit(
        "what a list lacks stays",
        _WORLD,
        "                    self._forget(kind, seen)\n                    changed.add(seen.queue)",
        "                    pass",
    ),
    Edit(
        "a living worker's messages are taken back",
        _FLEET,
        "(pod in gone or began < since.get(pod, 0.0))",
        "(pod in gone or began >= since.get(pod, 0.0))",
    ),
    Edit(
        "pods that drain count as running",
        _FLEET,
        "living = [pod for pod in pods if not pod.deleting and not pod.over]",
        "living = [pod for pod in pods if not pod.over]",
    ),
    Edit(
        "a field that no pod has is tried for ever and told to nobody",
        _APPLY,
        "error.status in _FINAL or _UNTYPED in str(error)",
        "error.status in _FINAL",
    ),
    Edit(
        "what could not be written is not named",
        _APPLY,
        'text = f"the {kind.name} {where[2]} could not be written: {error}"',
        "text = str(error)",
    ),
)
