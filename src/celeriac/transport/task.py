"""The base class of an app's tasks: Celery's, whose `apply_async` takes the short way when a call is plain.

`registration.py` makes this the default `Celery.task_cls`. An app with a task class of its own, and a
task with another base, publish as Celery does.
"""

from __future__ import annotations

from typing import Any

from celery.app import task as celery_task

from celeriac.client.job import new_id


class Task(celery_task.Task):  # type: ignore[misc]
    """Celery's task."""

    abstract = True

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the task; see Celery's `Task.apply_async`. Raises MessageRefused as well."""
        if not (producer or link or link_error or shadow):
            sender = getattr(self._get_app().amqp, "fast_path", None)
            if sender is not None:
                task_id = task_id or new_id()
                result = sender.send(self, args, kwargs, task_id, options)
                if result is not None:
                    return result
        return super().apply_async(
            args, kwargs, task_id, producer, link, link_error, shadow, **options
        )
