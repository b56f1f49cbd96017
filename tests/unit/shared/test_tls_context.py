"""The server's context: what it is made of, and what is said when it cannot be made."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.ground.errors import ExitCode, UsageError
from hybrid.shared.tls_context import ServerTls, server_tls
from hybrid.shared.tls_files import open_tls_files
from hybrid.shared.tls_settings import TlsSettings
from tests.support.certificates import PASSWORD, Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def made(settings: TlsSettings) -> ServerTls:
    """Return what there is."""
    tls = server_tls(settings)
    assert tls is not None
    return tls


def refusal(settings: TlsSettings) -> str:
    """Return why there is no context."""
    with pytest.raises(UsageError) as refused:
        server_tls(settings)
    assert refused.value.exit_code is ExitCode.USAGE
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


def test_no_certificate_no_tls() -> None:
    """Without --ssl-certfile there is nothing to make."""
    assert server_tls(TlsSettings()) is None


def test_context_is_a_modern_one(certificates: Certificates) -> None:
    """TLS 1.2 at least, no compression, no renegotiation, clients not asked; it knows its certificate."""
    tls = made(TlsSettings(certificates.server, handshake_s=3.0))
    context = tls.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode is ssl.CERT_NONE
    assert context.certificate_pem is not None and ssl.PEM_cert_to_DER_cert(context.certificate_pem)
    assert tls.handshake_s == 3.0


@pytest.mark.parametrize(
    ("word", "mode"), [("optional", ssl.CERT_OPTIONAL), ("required", ssl.CERT_REQUIRED)]
)  # fmt: skip
def test_clients_are_asked(certificates: Certificates, word: str, mode: ssl.VerifyMode) -> None:
    """--ssl-verify, against the authorities that were given and no other."""
    tls = made(TlsSettings(certificates.server, ca_certs=certificates.authority, verify=word))
    assert tls.context.verify_mode is mode
    assert len(tls.context.get_ca_certs()) == 1


def test_key_of_its_own_and_encrypted(certificates: Certificates) -> None:
    """--ssl-keyfile, and --ssl-keyfile-password; a password that nobody needs is no error."""
    made(TlsSettings(certificates.certificate, certificates.key))
    made(TlsSettings(certificates.certificate, certificates.encrypted_key, PASSWORD))
    made(TlsSettings(certificates.certificate, certificates.key, PASSWORD))


def test_files_opened_by_somebody_else_are_read_by_descriptor(certificates: Certificates, tmp_path: Path) -> None:
    """What the parent opened is used, whatever the path leads to now; the descriptors stay open and unread."""
    paths = [tmp_path / name for name in ("certificate.pem", "key.pem", "ca.pem")]
    sources = (certificates.certificate, certificates.encrypted_key, certificates.authority)
    for path, source in zip(paths, sources, strict=True):
        path.write_bytes(Path(source).read_bytes())
    settings = TlsSettings(str(paths[0]), str(paths[1]), PASSWORD, str(paths[2]), "required")
    opened = open_tls_files(settings)
    try:
        for path in paths:
            path.unlink()
        for _ in range(2):
            tls = server_tls(settings, opened)
            assert tls is not None and tls.context.verify_mode is ssl.CERT_REQUIRED
    finally:
        for fd in opened.values():
            os.close(fd)


def test_no_descriptor_is_left(certificates: Certificates) -> None:
    """The copies that OpenSSL reads are gone when the context is there, and when it is not."""
    settings = TlsSettings(certificates.certificate, certificates.encrypted_key, PASSWORD)
    opened = open_tls_files(settings)
    try:
        before = os.listdir("/proc/self/fd")
        server_tls(settings, opened)
        with pytest.raises(UsageError):
            server_tls(replace(settings, keyfile_password="wrong"), opened)
        assert os.listdir("/proc/self/fd") == before
    finally:
        for fd in opened.values():
            os.close(fd)


# ── what cannot be made ──────────────────────────────────────────────────────────────────────────────────────


def test_file_that_cannot_be_read(certificates: Certificates, tmp_path: Path) -> None:
    """Missing, or a directory: the option, the path, the reason."""
    missing = str(tmp_path / "none.pem")
    assert refusal(TlsSettings(missing)).startswith(f"cannot read --ssl-certfile {missing}: No such file")
    assert "--ssl-keyfile" in refusal(TlsSettings(certificates.certificate, missing))
    settings = TlsSettings(certificates.server, ca_certs=str(tmp_path), verify="required")
    assert refusal(settings).startswith(f"cannot read --ssl-ca-certs {tmp_path}: Is a directory")


def test_file_that_is_something_else(certificates: Certificates, tmp_path: Path) -> None:
    """No certificate, no key, no authority in it."""
    other = tmp_path / "other"
    other.write_text("something else")
    assert "there is no certificate in it" in refusal(TlsSettings(str(other)))
    assert "there is no certificate in it" in refusal(TlsSettings(certificates.key))
    assert "there is no private key in it" in refusal(TlsSettings(certificates.certificate))
    assert f"--ssl-keyfile {other}: there is no private key" in refusal(
        TlsSettings(certificates.certificate, str(other))
    )
    settings = TlsSettings(certificates.server, ca_certs=str(other), verify="required")
    assert "OpenSSL finds no certificate in it" in refusal(settings)


def test_key_of_another_certificate(certificates: Certificates) -> None:
    """Certificate and key must be a pair."""
    said = refusal(TlsSettings(certificates.certificate, certificates.client))
    assert f"it is not the key of the certificate {certificates.certificate}" in said


def test_encrypted_key_never_asks_at_the_terminal(certificates: Certificates) -> None:
    """Without a password, or with a wrong one, it says so at once."""
    settings = TlsSettings(certificates.certificate, certificates.encrypted_key)
    assert "the key is encrypted. Give its password: HYBRID_SSL_KEYFILE_PASSWORD" in refusal(settings)
    for wrong in ("wrong", "x" * 2000):
        said = refusal(replace(settings, keyfile_password=wrong))
        assert "does not open the key. Correct --ssl-keyfile-password" in said
        assert wrong not in said


def test_damaged_certificate(certificates: Certificates, tmp_path: Path) -> None:
    """PEM outside, rubbish inside."""
    damaged = tmp_path / "damaged.pem"
    text = Path(certificates.server).read_text()
    damaged.write_text(text.replace("MII", "AAA", 3))
    assert "OpenSSL does not take certificate and key" in refusal(TlsSettings(str(damaged)))
