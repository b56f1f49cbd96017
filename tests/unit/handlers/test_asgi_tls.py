"""ASGI's ``tls`` extension, from sessions made in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hybrid.handlers import asgi_tls
from hybrid.handlers.asgi_tls import tls_extension
from hybrid.shared.tls_context import server_tls
from hybrid.shared.tls_settings import TlsSettings
from tests.support.certificates import Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def session(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Return the server's end of a session whose handshake is complete."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [client.wrap_bio(to_client, to_server, server_hostname="localhost"), server_end]
    for _ in range(4):
        for end in tuple(pending):
            try:
                end.do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not pending
    return server_end


def context(certificates: Certificates, verify: str = "none") -> ssl.SSLContext:
    """Return the server's context."""
    tls = server_tls(TlsSettings(certificates.server, ca_certs=certificates.authority, verify=verify))
    assert tls is not None
    return tls.context


def test_keys_are_those_of_the_specification(certificates: Certificates) -> None:
    """Without a client's certificate: our own, the version, the suite, and nothing of the client."""
    found = tls_extension(session(context(certificates), certificates.client_context()))
    pem = found.pop("server_cert")
    assert pem in Path(certificates.certificate).read_text()
    assert ssl.PEM_cert_to_DER_cert(pem)
    assert found == {
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1302,  # TLS_AES_256_GCM_SHA384
    }


def test_older_version_and_its_suite(certificates: Certificates) -> None:
    """TLS 1.2, where the client says which suite."""
    client = certificates.client_context(version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    found = tls_extension(session(context(certificates), client))
    assert (found["tls_version"], found["cipher_suite"]) == (0x0303, 0xC02B)


@pytest.mark.parametrize("verify", ["optional", "required"])
def test_client_that_was_asked(certificates: Certificates, verify: str) -> None:
    """The client's certificate as PEM, first of the chain, and its name with what has to be escaped."""
    found = tls_extension(session(context(certificates, verify), certificates.client_context(certificates.client)))
    assert found["client_cert_chain"][0] in Path(certificates.client).read_text()
    assert found["client_cert_name"].startswith("CN=Ada\\, of Ockham,")
    assert found["client_cert_name"].endswith(",O=Engine & Co")
    assert found["client_cert_error"] is None


def test_client_that_may_but_has_none(certificates: Certificates) -> None:
    """optional: no certificate is no error."""
    found = tls_extension(session(context(certificates, "optional"), certificates.client_context()))
    assert (found["client_cert_chain"], found["client_cert_name"]) == ((), None)


def test_context_of_somebody_else(certificates: Certificates) -> None:
    """A context that an application made itself does not say which certificate it shows."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificates.server)
    assert tls_extension(session(own, certificates.client_context()))["server_cert"] is None


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("a", "a"),
        ("#a", "\\#a"),
        (" a ", "\\ a\\ "),
        (" ", "\\ "),
        ('a+"<>;\\', 'a\\+\\"\\<\\>\\;\\\\'),
        ("a\0", "a\\00"),
    ],
)
def test_escapes(value: str, escaped: str) -> None:
    """Characters with a meaning, and those that count at an end only."""
    assert asgi_tls._escaped(value) == escaped
