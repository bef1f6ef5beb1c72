"""The messaging application: the first real user of the platform.

Six queues, seven job types. A backend enqueues through :class:`MessageQueueService`; a worker runs
``celeriac_messaging.app:app``; what happens to a job that fails is decided by ``queues.yaml``, not here.
"""
