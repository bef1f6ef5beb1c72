"""Celery's side of sending: the transport for kombu, the producers and task class for Celery apps."""
