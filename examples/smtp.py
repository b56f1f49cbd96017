"""Receive mail with aiosmtpd on all cores; needs ``pip install aiosmtpd``.

    hybrid-serve examples/smtp.py:smtp --bind 127.0.0.1:8025

Try it: ``python -c "import smtplib; smtplib.SMTP('127.0.0.1', 8025).sendmail('a@x', 'b@x', 'Subject: hi')"``
"""

from __future__ import annotations

import os

from aiosmtpd.smtp import SMTP, Envelope, Session

import hybrid


class Mailbox:
    """Where aiosmtpd delivers to; a real one would store the mail before it answers."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        print(f"[{os.getpid()}] {envelope.mail_from} → {', '.join(envelope.rcpt_tos)}", flush=True)
        return "250 Message accepted for delivery"


# An SMTP object serves one connection. It would look up its host's name in the DNS for each, so tell it.
smtp = hybrid.protocol(lambda: SMTP(Mailbox(), hostname="localhost"))
