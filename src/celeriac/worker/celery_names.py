"""What becomes here of every setting, task attribute, option and signal that Celery has.

The tables are the only place that says so: the worker warns from them at start, docs/celery.md is made of
them, and a test holds them against the installed Celery, so that a name which Celery gains is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["kept", "differs", "no effect", "refused"]
#: Celery's settings of these beginnings belong to parts that are Celery's own code here as well.
CELERYS_OWN = {
    "arangodb_": "result backend",
    "azureblockblob_": "result backend",
    "beat_": "`celery beat` works on a broker of ours; see `schedules` for what needs none",
    "cache_": "result backend",
    "cassandra_": "result backend",
    "cosmosdbsql_": "result backend",
    "couchbase_": "result backend",
    "database_": "result backend",
    "elasticsearch_": "result backend",
    "gcs_": "result backend",
    "mongodb_": "result backend",
    "redis_": "result backend",
    "result_": "result backend",
    "s3_": "result backend",
    "security_": "serializer `auth`",
    "control_queue_": "mailbox of remote control",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a name, and for one that is not kept as Celery keeps it, what to do instead."""

    verdict: Verdict
    text: str = ""


_KEPT = Fate("kept")


def _differs(text: str) -> Fate:
    return Fate("differs", text)


def _without(text: str) -> Fate:
    return Fate("no effect", text)


_DECLARED = "the MessageQueue declares it: `worker.{}`"
_SERVER = "the broker's URL says it"
LEASES = "leases take its place; a message is acknowledged when its outcome is settled"
_ON_REDIS = "only for AMQP servers, as in Celery on Redis"
_NO_EVENTS = "workers send no events"
_OUR_CONSUMER = "the worker's consumer is its own"

SETTINGS: dict[str, Fate] = {
    "accept_content": _differs("kept; but pickle is refused unless it stands here"),
    "broker_channel_error_retry": _without("workers wait for the broker for as long as it takes"),
    "broker_connection_max_retries": _without(
        "workers wait for the broker for as long as it takes"
    ),
    "broker_connection_retry": _without("workers wait for the broker for as long as it takes"),
    "broker_connection_retry_on_startup": _without(
        "workers wait for the broker for as long as it takes"
    ),
    "broker_connection_timeout": _without("`socket_connect_timeout=` in the broker's URL"),
    "broker_failover_strategy": _without("`celeriac+sentinel://` or `celeriac+cluster://`"),
    "broker_heartbeat": _without(_ON_REDIS),
    "broker_heartbeat_checkrate": _without(_ON_REDIS),
    "broker_host": _without(_SERVER),
    "broker_login_method": _without(_SERVER),
    "broker_native_delayed_delivery_queue_type": _without(_ON_REDIS),
    "broker_password": _without(_SERVER),
    "broker_pool_acquire_timeout": _KEPT,
    "broker_pool_limit": _KEPT,
    "broker_port": _without(_SERVER),
    "broker_read_url": _without("a queue lies on one broker: `broker_url`"),
    "broker_transport": _without(_SERVER),
    "broker_transport_options": _differs(
        "`socket_timeout`, `socket_connect_timeout`, `health_check_interval`, `max_connections`, "
        "`client_name` are kept; `global_keyprefix` is refused: write `?prefix=` into the URL"
    ),
    "broker_url": _differs("for producers; a worker takes `--broker` or CELERIAC_BROKER_URL"),
    "broker_use_ssl": _KEPT,
    "broker_user": _without(_SERVER),
    "broker_vhost": _without(_SERVER),
    "broker_write_url": _KEPT,
    "control_exchange": _KEPT,
    "enable_utc": _KEPT,
    "event_exchange": _without(_NO_EVENTS),
    "event_queue_durable": _without(_NO_EVENTS),
    "event_queue_exclusive": _without(_NO_EVENTS),
    "event_queue_expires": _without(_NO_EVENTS),
    "event_queue_prefix": _without(_NO_EVENTS),
    "event_queue_ttl": _without(_NO_EVENTS),
    "event_serializer": _without(_NO_EVENTS),
    "imports": _KEPT,
    "include": _KEPT,
    "task_acks_late": _differs("always late: a message is settled with its outcome"),
    "task_acks_on_failure": _without("`retry` of the MessageQueue says what a failure leads to"),
    "task_acks_on_failure_or_timeout": _without(
        "`retry` of the MessageQueue says what a failure leads to"
    ),
    "task_acks_on_timeout": _without("`retry` of the MessageQueue says what a time-out leads to"),
    "task_allow_error_cb_on_chord_header": _KEPT,
    "task_always_eager": _KEPT,
    "task_annotations": _KEPT,
    "task_compression": _KEPT,
    "task_create_missing_queue_exchange_type": _KEPT,
    "task_create_missing_queue_type": _without(_ON_REDIS),
    "task_create_missing_queues": _KEPT,
    "task_default_delivery_mode": _without("every message is as durable as the server"),
    "task_default_exchange": _KEPT,
    "task_default_exchange_type": _KEPT,
    "task_default_priority": _KEPT,
    "task_default_queue": _differs("kept; a worker serves the one queue that `-Q` names"),
    "task_default_queue_type": _without(_ON_REDIS),
    "task_default_rate_limit": _differs(
        "per worker, as in Celery; what has to wait, waits on the broker"
    ),
    "task_default_routing_key": _KEPT,
    "task_eager_propagates": _KEPT,
    "task_ignore_result": _KEPT,
    "task_inherit_parent_priority": _KEPT,
    "task_protocol": Fate("refused", "2 is the only one: sending raises ImproperlyConfigured"),
    "task_publish_retry": _KEPT,
    "task_publish_retry_policy": _KEPT,
    "task_queue_max_priority": _without("every queue has the priorities 0 to 9"),
    "task_queues": _differs("kept for routing; a worker serves the one queue that `-Q` names"),
    "task_reject_on_worker_lost": _without(
        "a worker that dies gives its messages back, `deadLetter.maxDeliveries` times"
    ),
    "task_remote_tracebacks": _KEPT,
    "task_repr_maxlevels": _without("a message carries no printed copy of its arguments"),
    "task_retry_on_worker_lost": _without(
        "a worker that dies gives its messages back, `deadLetter.maxDeliveries` times"
    ),
    "task_routes": _KEPT,
    "task_send_sent_event": _KEPT,
    "task_serializer": _KEPT,
    "task_soft_time_limit": _differs("Prefork, and `async def` tasks in Asyncio"),
    "task_store_eager_result": _KEPT,
    "task_store_errors_even_if_ignored": _KEPT,
    "task_time_limit": _differs("Prefork, and `async def` tasks in Asyncio"),
    "task_track_started": _KEPT,
    "timezone": _KEPT,
    "worker_agent": _without(_OUR_CONSUMER),
    "worker_autoscaler": _without(_DECLARED.replace("worker.{}", "autoscaling")),
    "worker_cancel_long_running_tasks_on_connection_loss": _without(LEASES),
    "worker_concurrency": _without(_DECLARED.format("concurrency")),
    "worker_consumer": _without(_OUR_CONSUMER),
    "worker_deduplicate_successful_tasks": _KEPT,
    "worker_detect_quorum_queues": _without(_ON_REDIS),
    "worker_direct": _without("a worker serves one queue; send to it by name"),
    "worker_disable_prefetch": _differs("nothing is claimed ahead of tasks that take long"),
    "worker_disable_rate_limits": _KEPT,
    "worker_enable_prefetch_count_reduction": _without(LEASES),
    "worker_enable_remote_control": _KEPT,
    "worker_enable_soft_shutdown_on_idle": _without(_DECLARED.format("drainSeconds")),
    "worker_eta_task_limit": _without("delayed messages wait on the broker, not in workers"),
    "worker_hijack_root_logger": _KEPT,
    "worker_log_color": _KEPT,
    "worker_log_datefmt": _KEPT,
    "worker_log_format": _KEPT,
    "worker_lost_wait": _without("a child's death is seen at once"),
    "worker_max_memory_per_child": _differs("Prefork, as in Celery"),
    "worker_max_tasks_per_child": _differs("Prefork, as in Celery"),
    "worker_pool": _without(_DECLARED.format("pool")),
    "worker_pool_putlocks": _without("children claim by themselves"),
    "worker_pool_restarts": _without("change the MessageQueue, and its workers are replaced"),
    "worker_pool_start_method": _without("Prefork forks"),
    "worker_prefetch_multiplier": _differs("claims follow the length of tasks by themselves"),
    "worker_proc_alive_timeout": _without("a child's death is seen at once"),
    "worker_redirect_stdouts": _differs("not redirected: what a task prints goes to stdout"),
    "worker_redirect_stdouts_level": _differs("not redirected: what a task prints goes to stdout"),
    "worker_send_task_events": _without(_NO_EVENTS),
    "worker_soft_shutdown_timeout": _without(_DECLARED.format("drainSeconds")),
    "worker_state_db": _without("revocations lie on the broker"),
    "worker_task_log_datefmt": _KEPT,
    "worker_task_log_format": _KEPT,
    "worker_timer": _without(_OUR_CONSUMER),
    "worker_timer_precision": _without(_OUR_CONSUMER),
}

#: Attributes of a task that are settings of it; its methods are Celery's.
ATTRIBUTES: dict[str, Fate] = {
    "acks_late": SETTINGS["task_acks_late"],
    "acks_on_failure": SETTINGS["task_acks_on_failure"],
    "acks_on_failure_or_timeout": SETTINGS["task_acks_on_failure_or_timeout"],
    "acks_on_timeout": SETTINGS["task_acks_on_timeout"],
    "autoretry_for": _KEPT,
    "default_retry_delay": _KEPT,
    "expires": _KEPT,
    "ignore_result": _KEPT,
    "max_retries": _differs(
        "kept by `retry()`; failures count against `retry.maxAttempts` besides"
    ),
    "priority": _differs("0 to 9, 0 the most urgent: 0 to 2 high, 3 to 6 normal, 7 to 9 low"),
    "rate_limit": SETTINGS["task_default_rate_limit"],
    "reject_on_worker_lost": SETTINGS["task_reject_on_worker_lost"],
    "resultrepr_maxsize": _KEPT,
    "retry_on_worker_lost": SETTINGS["task_retry_on_worker_lost"],
    "send_events": SETTINGS["worker_send_task_events"],
    "serializer": _KEPT,
    "soft_time_limit": SETTINGS["task_soft_time_limit"],
    "store_errors_even_if_ignored": _KEPT,
    "throws": _KEPT,
    "time_limit": SETTINGS["task_time_limit"],
    "track_started": _KEPT,
    "trail": _KEPT,
    "typing": _KEPT,
    "Request": Fate("refused", "a request class of one's own belongs to Celery's consumer"),
    "Strategy": Fate(
        "refused", "a strategy of one's own (celery-batches) belongs to Celery's consumer"
    ),
}

#: What `apply_async` and `send_task` take.
OPTIONS: dict[str, Fate] = {
    "add_to_parent": _KEPT,
    "args": _KEPT,
    "chain": _KEPT,
    "chord": _KEPT,
    "compression": _KEPT,
    "connection": _KEPT,
    "countdown": _differs("waits on the broker"),
    "declare": _KEPT,
    "delivery_mode": SETTINGS["task_default_delivery_mode"],
    "eta": _differs("waits on the broker"),
    "exchange": _differs("reaches the queues bound to it; refused when there is none"),
    "expires": _KEPT,
    "group_id": _KEPT,
    "group_index": _KEPT,
    "headers": _KEPT,
    "ignore_result": _KEPT,
    "kwargs": _KEPT,
    "link": _KEPT,
    "link_error": _KEPT,
    "name": _KEPT,
    "parent_id": _KEPT,
    "priority": ATTRIBUTES["priority"],
    "producer": _KEPT,
    "publisher": _KEPT,
    "queue": _KEPT,
    "replaced_task_nesting": _KEPT,
    "reply_to": _KEPT,
    "result_cls": _KEPT,
    "retries": _KEPT,
    "retry": _KEPT,
    "retry_policy": _KEPT,
    "root_id": _KEPT,
    "route_name": _KEPT,
    "router": _KEPT,
    "routing_key": _KEPT,
    "serializer": _KEPT,
    "shadow": _KEPT,
    "soft_time_limit": SETTINGS["task_soft_time_limit"],
    "task_id": _KEPT,
    "task_type": _KEPT,
    "time_limit": SETTINGS["task_time_limit"],
}

_NO_GREENLETS = _without("there is no such pool; Asyncio takes its place")
SIGNALS: dict[str, Fate] = {
    "after_setup_logger": _KEPT,
    "after_setup_task_logger": _KEPT,
    "after_task_publish": _KEPT,
    "beat_embedded_init": _without("no worker has a beat in it"),
    "beat_init": _KEPT,
    "before_task_publish": _KEPT,
    "celeryd_after_setup": _KEPT,
    "celeryd_init": _KEPT,
    "eventlet_pool_apply": _NO_GREENLETS,
    "eventlet_pool_postshutdown": _NO_GREENLETS,
    "eventlet_pool_preshutdown": _NO_GREENLETS,
    "eventlet_pool_started": _NO_GREENLETS,
    "heartbeat_sent": _without(_NO_EVENTS),
    "import_modules": _KEPT,
    "setup_logging": _KEPT,
    "task_failure": _KEPT,
    "task_internal_error": _KEPT,
    "task_postrun": _KEPT,
    "task_prerun": _KEPT,
    "task_received": _without("a message is claimed by who runs it, and task_prerun follows"),
    "task_rejected": _without("a message that cannot be read is a dead letter"),
    "task_retry": _differs("sent as well when the queue's policy retries"),
    "task_revoked": _KEPT,
    "task_sent": _KEPT,
    "task_success": _KEPT,
    "task_unknown": _without("a message that nobody knows is a dead letter"),
    "user_preload_options": _without("an option of the command `celery`"),
    "worker_before_create_process": _without("children fork by themselves: worker_process_init"),
    "worker_init": _KEPT,
    "worker_process_init": _KEPT,
    "worker_process_shutdown": _KEPT,
    "worker_ready": _KEPT,
    "worker_shutdown": _KEPT,
    "worker_shutting_down": _KEPT,
}


def fate_of(setting: str) -> Fate | None:
    """What becomes of a setting; None for a name that this release has not heard of."""
    for beginning, text in CELERYS_OWN.items():
        if setting.startswith(beginning):
            return Fate("kept", text)
    return SETTINGS.get(setting)
