"""The tasks: one file for each kind of job, each a plain Celery task.

A task validates its payload and calls a function that does the job with the parts it is given.
Neither knows about queues, retries or dead letters: raising one of `celeriac_messaging.errors` is enough.
"""
