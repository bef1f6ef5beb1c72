"""E-mail over SMTP.

The Message-ID is the job's id, so that mail servers and mail clients drop a second copy.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import Literal

from email_validator import validate_email

from celeriac_messaging.errors import RecipientBusy, RecipientRefused
from celeriac_messaging.settings import needed


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where and how mail is handed over."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: str | None = None


def compose(
    *, effect: str, sender_name: str, mail_from: str, to: str, subject: str, body: str
) -> EmailMessage:
    """A plain-text message; addresses and headers of any language."""
    mail_from, to = most_compatible(mail_from), most_compatible(to)
    mail = EmailMessage(policy=SMTP if (mail_from + to).isascii() else SMTPUTF8)
    mail["Message-ID"] = f"<{effect}@{mail_from.rpartition('@')[2]}>"
    mail["From"] = _address(mail_from, sender_name)
    mail["To"] = _address(to)
    mail["Subject"] = subject
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(body)
    return mail


def most_compatible(address: str) -> str:
    """The address with an ASCII domain; only the part before the @ may need SMTPUTF8."""
    checked = validate_email(address, check_deliverability=False)
    return checked.ascii_email or f"{checked.local_part}@{checked.ascii_domain}"


def _address(address: str, display_name: str = "") -> Address:
    username, _, domain = address.rpartition("@")
    return Address(display_name, username=username, domain=domain)


class SmtpMailer:
    """Hands each e-mail to one server, over a connection of its own."""

    def __init__(
        self, server: SmtpServer, *, mail_from: str | None, timeout_seconds: float
    ) -> None:
        self._server = server
        self._mail_from = mail_from
        self._timeout = timeout_seconds

    def send(self, *, effect: str, to: str, sender: str, subject: str, body: str) -> None:
        mail_from = needed(self._mail_from, "MAIL_FROM", "e-mail needs a sender's address")
        mail = compose(
            effect=effect,
            sender_name=sender,
            mail_from=mail_from,
            to=to,
            subject=subject,
            body=body,
        )
        try:
            with self._connect() as connection:
                connection.send_message(
                    mail, from_addr=most_compatible(mail_from), to_addrs=[most_compatible(to)]
                )
        except smtplib.SMTPRecipientsRefused as refusal:
            raise _judge(max(code for code, _text in refusal.recipients.values())) from None
        except smtplib.SMTPResponseException as refusal:
            raise _judge(refusal.smtp_code) from None
        except smtplib.SMTPNotSupportedError:
            raise RecipientRefused("mail server lacks a feature that this mail needs") from None
        except (OSError, smtplib.SMTPException) as error:
            raise RecipientBusy(f"mail server does not answer ({type(error).__name__})") from None

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        if server.security == "tls":
            context = ssl.create_default_context()
            secure = smtplib.SMTP_SSL(
                server.host, server.port, timeout=self._timeout, context=context
            )
            return self._login(secure)
        connection = smtplib.SMTP(server.host, server.port, timeout=self._timeout)
        if server.security == "starttls":
            connection.starttls(context=ssl.create_default_context())
        return self._login(connection)

    def _login(self, connection: smtplib.SMTP) -> smtplib.SMTP:
        if self._server.user is not None:
            connection.login(self._server.user, self._server.password or "")
        return connection


def _judge(code: int) -> RecipientBusy | RecipientRefused:
    if 400 <= code < 500:
        return RecipientBusy(f"mail server answered {code}")
    return RecipientRefused(f"mail server answered {code}")
