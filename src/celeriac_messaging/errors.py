"""What can go wrong with a job, in the two kinds that matter: worth another try, or not.

``queues.yaml`` routes on these classes (along the inheritance line): a `PermanentError` becomes a
dead letter at once, anything else is retried with backoff. The text of an error is kept with the
dead letter and in the logs, so it says what was wrong and what would be right and never repeats a
payload's content.
"""

from __future__ import annotations


class MessagingError(Exception):
    """The root of this application's errors; its text is safe to log."""


class TransientError(MessagingError):
    """The same job may succeed later: a server is busy, down, or unreachable."""


class PermanentError(MessagingError):
    """No number of attempts helps: the job itself, or its recipient, must change."""


class InvalidPayload(PermanentError):
    """The payload breaks its schema; the text names each field and what would be right."""


class NewerPayload(TransientError):
    """The payload is newer than this worker: one that is rolling out will understand it."""


class ConfigurationError(PermanentError):
    """The environment lacks a setting that this job needs, or it cannot be read."""


class RecipientBusy(TransientError):
    """The recipient's server refused for now, or could not be reached."""


class RecipientRefused(PermanentError):
    """The recipient's server refused for good."""


class RecipientGone(RecipientRefused):
    """The recipient no longer exists there: stop sending to this address."""


class ForbiddenAddress(PermanentError):
    """The address leads into a network that this service must not call."""


class KeyNotFound(TransientError):
    """No key with that id here, yet: keys are rolled out before they are used."""


class SealBroken(PermanentError):
    """A sealed text does not open: altered, or not sealed for this tenant and message."""


class NotThereYet(TransientError):
    """The job is about something that another job has still to make."""


class Conflict(PermanentError):
    """The same id was used before with different content."""
