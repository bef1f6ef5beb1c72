"""The application's parts, as its unit tests make them."""

from tests.unit.messaging.conftest import mail, mailer, search, store, tools

__all__ = ["mail", "mailer", "search", "store", "tools"]
