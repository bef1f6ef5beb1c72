"""What is declared, decided and done about a queue."""

from tests.mutants.table import Edit

_SCALE = "src/celeriac/control/scale.py"
_PLAN = "src/celeriac/control/plan.py"
_KEEPER = "src/celeriac/control/keeper.py"
_LOOP = "src/celeriac/control/loop.py"
_BROKER = "src/celeriac/control/broker.py"
_SCHEDULE = "src/celeriac/control/schedule.py"
_STATUS = "src/celeriac/control/status.py"

EDITS = (
    Edit(
        "leased messages need no workers",
        _SCALE,
        "needed = math.ceil((stats.ready + stats.leased + stats.due) / spec.worker.slots)",
        "needed = math.ceil((stats.ready + stats.due) / spec.worker.slots)",
    ),
    Edit(
        "a queue that cannot be read is scaled to nothing",
        _SCALE,
        'return _held(spec, observation, least, fleet.wanted, "BrokerUnreachable"), hold',
        'return _held(spec, observation, least, 0, "BrokerUnreachable"), hold',
    ),
    Edit(
        "there is no upper limit",
        _SCALE,
        "target = max(least, min(most, needed))",
        "target = max(least, needed)",
    ),
    Edit(
        "down at once",
        _SCALE,
        "desired = min(most, memory.most())",
        "desired = min(most, target)",
    ),
    Edit(
        "the first look stops the workers it finds",
        _SCALE,
        "memory = memory.add(now, min(fleet.wanted, most), window_s=window)",
        "pass",
    ),
    Edit(
        "the messages of dead workers stay with them",
        _PLAN,
        "changes.append(TakeBack(observation.fleet.lost))",
        "pass",
    ),
    Edit(
        "after an outage the living lose their leases",
        _PLAN,
        "changes.append(Reclaim(look_only=not settled))",
        "changes.append(Reclaim())",
    ),
    Edit(
        "what is due waits for a worker",
        _PLAN,
        "changes.append(Promote())",
        "pass",
    ),
    Edit(
        "a changed policy is not written",
        _PLAN,
        "        and declared.policy == queue.spec.policy\n",
        "",
    ),
    Edit(
        "a queue's messages go though it retains them",
        _PLAN,
        'queue.spec.deletion_policy == "Purge" and',
        'queue.spec.deletion_policy != "Purge" and',
    ),
    Edit(
        "messages are purged under running workers",
        _PLAN,
        "gone = not (fleet.running or fleet.draining or fleet.waiting or fleet.lost)",
        "gone = True",
    ),
    Edit(
        "no worker is ever started",
        _KEEPER,
        "self._backend.ensure(self.queue, replicas=replicas)",
        "pass",
    ),
    Edit(
        "a change that fails keeps the next from its turn",
        _KEEPER,
        'self.trouble = f"{type(change).__name__} failed: {_why(error)}"',
        "return False",
    ),
    Edit(
        "a schedule fires again and again",
        _KEEPER,
        "self._timers[name] = self._timers[name].dealt_with(it.at)",
        "pass",
    ),
    Edit(
        "a schedule that fired is not remembered",
        _KEEPER,
        "        self._access.remember_schedules({name: it.at})\n",
        "",
    ),
    Edit(
        "dead workers are told of for ever",
        _KEEPER,
        "self._backend.acknowledge(self.queue, workers)",
        "pass",
    ),
    Edit(
        "stopping purges",
        _KEEPER,
        "if stopping:\n            changes = [",
        "if not stopping:\n            changes = [",
    ),
    Edit(
        "one queue's trouble ends the loop",
        _LOOP,
        '        logger.exception("%s: this round failed", what)',
        "        raise",
    ),
    Edit(
        "a queue that is gone keeps its workers",
        _LOOP,
        "self._leaving[name] = self._keepers.pop(name)",
        "self._keepers.pop(name)",
    ),
    Edit(
        "every queue waits for a broker that is down",
        _LOOP,
        "                down = down or keeper.unreachable\n        for name, keeper in list",
        "        for name, keeper in list",
    ),
    Edit(
        "a dead worker's children keep what they held",
        _BROKER,
        'name.partition("/")[0] in workers]',
        "name in workers]",
    ),
    Edit(
        "of many that are due the first page",
        _BROKER,
        "if self._queue.promote(_PROMOTED_AT_ONCE) < _PROMOTED_AT_ONCE:",
        "if self._queue.promote(_PROMOTED_AT_ONCE) <= _PROMOTED_AT_ONCE:",
    ),
    Edit(
        "a purge leaves the dead letters",
        _BROKER,
        "gone += self._queue.purge_dead([letter.entry for letter in letters])",
        "break",
    ),
    Edit(
        "two loops send one due time twice",
        _SCHEDULE,
        "        dedup_key=key,\n",
        "",
    ),
    Edit(
        "a schedule makes up for a night",
        _SCHEDULE,
        "if timer.next is None or timer.next >= now - LATEST:",
        "if True:",
    ),
    Edit(
        "a queue without workers is ready",
        _STATUS,
        'return False, Reason.STARTING, f"{_workers(decision.desired)} wanted, none',
        'return True, Reason.STARTING, f"{_workers(decision.desired)} wanted, none',
    ),
    Edit(
        "workers that die again and again are no stall",
        _STATUS,
        'return True, Reason.WORKERS_FAILING, f"{how}: {fleet.last_failure}"',
        "return False, Reason.WORKERS_FAILING, fleet.last_failure",
    ),
    Edit(
        "what failed is called as declared",
        _STATUS,
        "    elif trouble:\n",
        "    elif False:\n",
    ),
    Edit(
        "what is refused is called as declared",
        _STATUS,
        'return "Unknown"  # nothing is under way, and nothing is as declared',
        "pass",
    ),
)
