"""Mail goes to a real server over SMTP, encrypted where it leaves the machine; or into a folder."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from pathlib import Path
from urllib.parse import quote

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.platform.mail import Mail, MailFolder, SmtpMailer
from agentnexus.platform.process import free_port
from tests.platform.mail_server import PASSWORD, USER, certificates, mail_server

# The peer warns of passwords without STARTTLS; where it speaks TLS from the first byte there is none.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
SENDER = "AgentNexus <node@nexus.example>"
MAIL = Mail("ada@example.org", "Your code", "The code is 123456.\n.\nÜber all.\n")
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}"


async def test_a_message_arrives_as_it_was_written() -> None:
    with mail_server() as post:
        await SmtpMailer(f"smtp://127.0.0.1:{post.port}", SENDER).send(MAIL)
        (message,) = post.messages
        assert (message["To"], message["From"], message["Subject"]) == (MAIL.to, SENDER, MAIL.subject)
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Message-ID"].endswith("@nexus.example>")
        assert message["Date"] is not None
        assert message.get_content() == MAIL.text  # type: ignore[attr-defined]  # the default policy's message has it
        (envelope,) = post.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("node@nexus.example", [MAIL.to])


@pytest.mark.parametrize("whole", [True, False])
async def test_a_password_travels_encrypted_and_opens_the_server(tmp_path: Path, whole: bool) -> None:
    server, client = certificates(tmp_path)
    with mail_server(tls=server, whole=whole, auth=True) as post:
        scheme = "smtps" if whole else "smtp"
        await SmtpMailer(f"{scheme}://{LOGIN}@127.0.0.1:{post.port}", SENDER, context=client).send(MAIL)
        assert (post.signed_in, post.encrypted) == ([True], [True])


async def test_a_wrong_password_sends_nothing(tmp_path: Path) -> None:
    server, client = certificates(tmp_path)
    with mail_server(tls=server, auth=True) as post:
        mailer = SmtpMailer(f"smtp://{USER}:wrong@127.0.0.1:{post.port}", SENDER, context=client, timeout_seconds=2)
        with pytest.raises(Unavailable):
            await mailer.send(MAIL)
        assert post.envelopes == []


async def test_a_password_is_never_told_to_a_server_without_encryption() -> None:
    with mail_server() as post:
        with pytest.raises(Unavailable, match="does not take messages"):
            await SmtpMailer(f"smtp://{LOGIN}@127.0.0.1:{post.port}", SENDER).send(MAIL)
        assert post.envelopes == []


@pytest.mark.parametrize("whole", [True, False])
async def test_a_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path, whole: bool) -> None:
    server, _ = certificates(tmp_path)
    with mail_server(tls=server, whole=whole, auth=True) as post:
        scheme = "smtps" if whole else "smtp"
        with pytest.raises(Unavailable):
            await SmtpMailer(f"{scheme}://{LOGIN}@127.0.0.1:{post.port}", SENDER).send(MAIL)
        assert post.envelopes == []


async def test_a_refused_address_is_told_from_a_server_that_is_busy() -> None:
    with mail_server() as post:
        mailer = SmtpMailer(f"smtp://127.0.0.1:{post.port}", SENDER)
        post.refuse_recipient = "550 no such user"
        with pytest.raises(InvalidInput):
            await mailer.send(MAIL)
        post.refuse_recipient, post.refuse_data = "", "451 try later"
        with pytest.raises(Unavailable) as raised:
            await mailer.send(MAIL)
        assert "another way" in raised.value.next_step


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await SmtpMailer(f"smtp://127.0.0.1:{free_port()}", SENDER).send(MAIL)


@pytest.mark.parametrize("break_in", ["a@b.example\nBcc: eve@evil.example", "a@b.example\r\n\r\nbody", "a@b.example\r"])
async def test_nothing_breaks_out_of_a_header(break_in: str, tmp_path: Path) -> None:
    with mail_server() as post:
        for mailer in (SmtpMailer(f"smtp://127.0.0.1:{post.port}", SENDER), MailFolder(tmp_path / "mail")):
            for mail in (Mail(break_in, "s", "t"), Mail("a@b.example", break_in, "t")):
                with pytest.raises(InvalidInput):
                    await mailer.send(mail)
        assert post.envelopes == []


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("http://mail.example", SENDER),
        ("mail.example:25", SENDER),
        ("smtp://", SENDER),
        ("", SENDER),
        ("smtp://mail.example", "nobody"),
        ("smtp://mail.example", ""),
        ("smtp://mail.example", "a@b.example\nBcc: c@d.example"),
    ],
)
def test_wrong_settings_are_said_at_the_start(url: str, sender: str) -> None:
    with pytest.raises(InvalidInput):
        SmtpMailer(url, sender)


async def test_the_folder_keeps_messages_in_order_and_to_itself(tmp_path: Path, clock: ManualClock) -> None:
    folder = MailFolder(tmp_path / "home" / "mail", clock)
    for number in range(3):
        await folder.send(Mail("ada@example.org", f"number {number}", "text\n"))
        clock.advance(1)
    files = sorted(folder.path.glob("*.eml"))
    messages = [message_from_bytes(path.read_bytes(), policy=default) for path in files]
    assert [message["Subject"] for message in messages] == ["number 0", "number 1", "number 2"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert sorted(folder.path.iterdir()) == files
