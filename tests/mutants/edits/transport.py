"""Celery's side of sending."""

from tests.mutants.table import Edit

_FAST = "src/celeriac/transport/fast_path.py"
_AMQP = "src/celeriac/transport/amqp.py"

EDITS = (
    Edit(
        "a countdown is run at once",
        _FAST,
        "delay_ms=round(delay_s * 1000),",
        "delay_ms=0,",
    ),
    Edit(
        "what a plain call says of its priority is dropped",
        _FAST,
        "priority=priority_of(priority),",
        'priority="normal",',
    ),
    Edit(
        "a task that expires does not",
        _FAST,
        "        not _says_little(options)\n        or",
        "        False\n        or",
    ),
    Edit(
        "who listens hears nothing",
        _FAST,
        "            if signal.receivers:\n",
        "            if False:\n",
    ),
    Edit(
        "a child does not name its parent",
        _FAST,
        "get_current_worker_task() is None\n            and not",
        "True\n            and not",
    ),
    Edit(
        "a task's time limits are dropped",
        _FAST,
        '"timelimit": [time_limit, soft_time_limit],',
        '"timelimit": [None, None],',
    ),
    Edit(
        "a call of a full broker is lost in silence",
        _FAST,
        "                return None  # Celery's way waits",
        "                return task.AsyncResult(message.id)  # Celery's way waits",
    ),
    Edit(
        "what is compressed loses its encoding",
        _AMQP,
        "            and not compression\n",
        "",
    ),
    Edit(
        "a full broker is asked once",
        _AMQP,
        'return retry_over_time(send, BrokerRefuses, **_times(options.get("retry_policy")))',
        "return None",
    ),
    Edit(
        "a connection that breaks takes a message along",
        _AMQP,
        "                # From here on it is kombu's producer that waits and repeats, as the policy says.",
        "                return None",
    ),
    Edit(
        "a time without a zone is taken for London's",
        _AMQP,
        "timezone=self._pool.timezone,",
        "timezone=UTC,",
    ),
    Edit(
        "secrets are shown to who inspects a worker",
        "src/celeriac/transport/url.py",
        "text = broker.hosts[0][0]",
        "text = broker.text()",
    ),
    Edit(
        "a connection forgets its password",
        "src/celeriac/transport/url.py",
        "password=connection.password or broker.password,",
        "password=broker.password,",
    ),
)
