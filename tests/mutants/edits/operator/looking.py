"""A look at a queue, and who may look."""

from tests.mutants.table import Edit

_RECONCILE = "operator/celeriac_operator/reconcile.py"
_REPORTING = "operator/celeriac_operator/reporting.py"
_KEEPERS = "operator/celeriac_operator/keepers.py"
_BROKERS = "operator/celeriac_operator/brokers.py"
_BROKER_LINK = "operator/celeriac_operator/broker_link.py"
_ENGINE = "operator/celeriac_operator/engine.py"
_WORKQUEUE = "operator/celeriac_operator/workqueue.py"
_STORED = "src/celeriac/spec/stored.py"

EDITS = (
    Edit(
        "a look returns at once",
        _RECONCILE,
        "        seen = self._world.queue(key)\n        if seen is None:\n            self._forget(key)",
        "        return Look()\n        seen = self._world.queue(key)\n        if seen is None:\n            self._forget(key)",
    ),
    Edit(
        "no round is done",
        _RECONCILE,
        "keeper.round(problem=problem, ignored=ignored)",
        "keeper.round(problem=problem, ignored=ignored) if keeper.status is None else None",
    ),
    Edit(
        "the status is never written",
        _RECONCILE,
        "        self._reporter.report(seen, status)\n",
        "        pass\n",
    ),
    Edit(
        "hands off is not heeded",
        _RECONCILE,
        "        if seen.hands_off:\n            self._tell",
        "        if False:\n            self._tell",
    ),
    Edit(
        "a broken declaration takes the last good one's place",
        _RECONCILE,
        "            queue = kept.keeper.queue\n",
        "            return Look()\n",
    ),
    Edit(
        "what is ignored is not said",
        _RECONCILE,
        "keeper.round(problem=problem, ignored=ignored)",
        "keeper.round(problem=problem)",
    ),
    Edit(
        "the younger of two resources keeps the queue",
        _RECONCILE,
        "if (other.created, other.uid) >= (seen.created, seen.uid):",
        "if (other.created, other.uid) <= (seen.created, seen.uid):",
    ),
    Edit(
        "queues of one name on two brokers are one",
        _RECONCILE,
        "if self._brokers.address(other).identity == address.identity:",
        "if self._brokers.address(other).identity:",
    ),
    Edit(
        "who gives way keeps its workers",
        _RECONCILE,
        "        self._backend.remove(queue)\n        self._keepers.drop(seen.queue)\n        self._stall",
        "        self._keepers.drop(seen.queue)\n        self._stall",
    ),
    Edit(
        "a failed change is not tried again",
        _RECONCILE,
        'return Look(self._again(keeper), "" if obstacle else keeper.trouble)',
        "return Look(self._again(keeper))",
    ),
    Edit(
        "a queue on the move rests",
        _RECONCILE,
        "            wait = MOVING_S\n        elif",
        "            pass\n        elif",
    ),
    Edit(
        "a schedule waits for the next resync",
        _RECONCILE,
        "            wait = min(wait, max(0.05, (due - self._clock.now()).total_seconds()))",
        "            pass",
    ),
    Edit(
        "no finalizer is set",
        _RECONCILE,
        'wanted = queue.spec.deletion_policy == "Purge"',
        'wanted = queue.spec.deletion_policy == "Purged"',
    ),
    Edit(
        "the finalizer is never removed",
        _RECONCILE,
        "        others = [it for it in seen.finalizers if it != names.PURGE_FINALIZER]\n        self._set_finalizers(seen, others)",
        "        others = [*seen.finalizers]\n        self._set_finalizers(seen, others)",
    ),
    Edit(
        "others' finalizers are removed",
        _RECONCILE,
        "            others = [it for it in seen.finalizers if it != names.PURGE_FINALIZER]\n            self._set_finalizers(seen, [*others",
        "            others: list[str] = []\n            self._set_finalizers(seen, [*others",
    ),
    Edit(
        "a deletion waits for the broker for ever",
        _RECONCILE,
        "        if age.total_seconds() < PURGE_S:",
        "        if age.total_seconds() >= 0:",
    ),
    Edit(
        "a queue is purged though somebody else has it",
        _RECONCILE,
        '            raise NotPurged(f"the queue belongs',
        '            str(f"the queue belongs',
    ),
    Edit(
        "hands off does not keep a deletion from purging",
        _RECONCILE,
        '            raise NotPurged("the annotation',
        '            str("the annotation',
    ),
    Edit(
        "a deleted queue's own deletion is not heeded",
        _RECONCILE,
        "        if seen.deletion_time:\n            return self._delete(seen)\n",
        "",
    ),
    Edit(
        "what is gone stays in the metrics",
        _RECONCILE,
        "            self._statuses.pop(key, None)",
        "            pass",
    ),
    Edit(
        "without a Secret the old broker is kept",
        _RECONCILE,
        "            self._backend.reach(seen.queue, None)\n            self._brokers.forget(seen.queue)\n",
        "            pass\n",
    ),
    Edit(
        "a status is written once",
        _REPORTING,
        "        if not must_write(known.status, status, since_s=self._now() - known.at):",
        "        if known.status is not None:",
    ),
    Edit(
        "a status is written at each look",
        _REPORTING,
        "        if not must_write(known.status, status, since_s=self._now() - known.at):",
        "        if False:",
    ),
    Edit(
        "the status goes into the spec's place",
        _REPORTING,
        'self._api.apply(*where, manager=names.MANAGER, sub="status")',
        "self._api.apply(*where, manager=names.MANAGER)",
    ),
    Edit(
        "no Event tells of a transition",
        _REPORTING,
        "        for condition in transitions_to_tell(known.told, status.conditions):",
        "        for condition in transitions_to_tell(known.told, ()):",
    ),
    Edit(
        "a refused Event fails the look",
        _REPORTING,
        '            logger.info("%s/%s: an Event was refused: %s", seen.namespace, seen.name, error)',
        "            raise",
    ),
    Edit(
        "a status that was not written counts as written",
        _REPORTING,
        "        self._write(seen, body)\n",
        "        known.status = status\n        self._write(seen, body)\n",
    ),
    Edit(
        "a keeper keeps its old declaration",
        _KEEPERS,
        "            before.keeper.declare(queue)\n            return before",
        "            return before",
    ),
    Edit(
        "another broker is not noticed",
        _KEEPERS,
        "if before is not None and before.token == token:",
        "if before is not None:",
    ),
    Edit(
        "each look begins anew",
        _KEEPERS,
        "            self._kept[seen.queue] = kept\n",
        "            pass\n",
    ),
    Edit(
        "a resource made anew inherits the old one's keeper",
        _KEEPERS,
        "return kept if kept is not None and kept.uid == seen.uid else None",
        "return kept",
    ),
    Edit(
        "a broker is measured for ever",
        _KEEPERS,
        "        self._brokers.forget(key)",
        "        pass",
    ),
    Edit(
        "a new keeper forgets the stored status",
        _KEEPERS,
        "keeper.status = before.keeper.status if before else stored",
        "pass",
    ),
    Edit(
        "links of others are closed", _BROKERS, "            if link.empty:", "            if True:"
    ),
    Edit(
        "links are never closed",
        _BROKERS,
        "                link.close()\n\n    def links",
        "                pass\n\n    def links",
    ),
    Edit(
        "the platform's Secret goes before the namespace's own",
        _BROKERS,
        "if own == beside or self._secrets.read(own) is not None:",
        "if own == beside:",
    ),
    Edit(
        "a record is declared by who does not lead",
        _BROKER_LINK,
        "        self._link.fence.check()\n        version =",
        "        version =",
    ),
    Edit(
        "messages are purged by who does not lead",
        _BROKER_LINK,
        "        self._link.fence.check()\n        return self._access.purge()",
        "        return self._access.purge()",
    ),
    Edit(
        "dead workers' messages are taken by who does not lead",
        _BROKER_LINK,
        "        self._link.fence.check()\n        return self._access.take_back",
        "        return self._access.take_back",
    ),
    Edit(
        "schedules fire on who does not lead",
        _BROKER_LINK,
        "        self._link.fence.check()\n        return self._access.publish",
        "        return self._access.publish",
    ),
    Edit(
        "a broker's end is not told",
        _BROKER_LINK,
        "            for key in names:\n                self._changed(key)",
        "            pass",
    ),
    Edit(
        "new messages are not told",
        _BROKER_LINK,
        "if answered_again or _differ(before.get(name), self._found[name][1]):",
        "if answered_again:",
    ),
    Edit(
        "a refused password is kept",
        _BROKER_LINK,
        "            self._refused()\n",
        "            pass\n",
    ),
    Edit(
        "no worker takes up work",
        _ENGINE,
        "        for number in range(self._config.workers):",
        "        for number in range(0):",
    ),
    Edit(
        "what is stored is not looked at",
        _ENGINE,
        "        for key in self.world.queues():\n            self.work.add(key)\n",
        "",
    ),
    Edit(
        "no look comes again",
        _ENGINE,
        "                self.work.add_after(key, look.again_s)\n",
        "                pass\n",
    ),
    Edit(
        "a failure is not tried again",
        _ENGINE,
        "            delay = self.work.retry(key)",
        "            delay = 0.0",
    ),
    Edit(
        "a failed look counts as a success",
        _ENGINE,
        "            trouble = look.trouble\n",
        '            trouble = ""\n',
    ),
    Edit(
        "a key stays in hand",
        _ENGINE,
        "                self.work.done(key)",
        "                pass",
    ),
    Edit(
        "a thread that ends is not noticed",
        _ENGINE,
        "                self.failed.set()",
        "                pass",
    ),
    Edit(
        "a broken watch is never made good",
        _ENGINE,
        "                    for key in self._list(kind):\n                        self.work.add(key)",
        "                    for key in self._list(kind):\n                        pass",
    ),
    Edit(
        "pods are not listed",
        _ENGINE,
        "            changed |= self.world.replace(kind, items, namespace=namespace, since=since)",
        "            changed |= set()",
    ),
    Edit(
        "backoff is not kept",
        _WORKQUEUE,
        "            self._failures[key] = failures + 1",
        "            self._failures[key] = 0",
    ),
    Edit(
        "one key is in two hands",
        _WORKQUEUE,
        "        if key in self._held:\n            self._again.add(key)\n        elif",
        "        if",
    ),
    Edit(
        "a key that comes while it is worked on is lost",
        _WORKQUEUE,
        "            self._again.add(key)\n",
        "            pass\n",
    ),
    Edit(
        "an unknown field stops its queue",
        _STORED,
        "            if not unknown:",
        "            if True:",
    ),
    Edit(
        "an unknown value is passed over, too",
        _STORED,
        'if it["type"] == "extra_forbidden")',
        'if it["type"] in ("extra_forbidden", "literal_error"))',
    ),
)
