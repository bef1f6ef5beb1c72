"""What is declared."""

from tests.mutants.table import Edit

_QUEUE = "src/celeriac/spec/queue.py"

EDITS = (
    Edit(
        "rules between fields are not kept",
        "src/celeriac/spec/rules.py",
        "if rule.holds and not rule.holds(self)]",
        "if False]",
    ),
    Edit(
        "a field with a typo is passed over",
        "src/celeriac/spec/rules.py",
        'extra="forbid",',
        'extra="ignore",',
    ),
    Edit(
        "two schedules share a name",
        "src/celeriac/spec/rules.py",
        "            if value in seen:\n",
        "            if False:\n",
    ),
    Edit(
        "a queue is renamed under its messages",
        _QUEUE,
        "if old.queue_name == new.queue_name and old.spec.queue == new.spec.queue:",
        "if True:",
    ),
    Edit(
        "a queue's own name on the broker is ignored",
        _QUEUE,
        "return self.spec.queue or self.metadata.name",
        "return self.metadata.name",
    ),
    Edit(
        "one that runs one message is scaled as if it ran many",
        _QUEUE,
        'return 1 if self.pool == "Solo" else self.concurrency',
        "return self.concurrency",
    ),
    Edit(
        "a pause does not reach the workers",
        _QUEUE,
        "            paused=self.paused,\n",
        "",
    ),
    Edit(
        "the limit of dead letters does not reach the broker",
        _QUEUE,
        "            dead_letter=self.dead_letter,\n",
        "",
    ),
    Edit(
        "two resources share a queue",
        "src/celeriac/spec/load.py",
        "elif queue.queue_name in on_broker:",
        "elif False:",
    ),
    Edit(
        "a condition is always new",
        "src/celeriac/spec/conditions.py",
        "if old is not None and old.status == new.status:",
        "if False:",
    ),
    Edit(
        "a schedule is due in another time zone",
        "src/celeriac/spec/cron.py",
        "next(CronSim(expression, after.astimezone(zone(time_zone)))).astimezone(UTC)",
        "next(CronSim(expression, after.astimezone(UTC))).astimezone(UTC)",
    ),
    Edit(
        "of many missed times the oldest is made up for",
        "src/celeriac/spec/cron.py",
        "        newest = due\n",
        "        newest = newest or due\n",
    ),
)
