"""An authority, a server's certificate and a client's, made when the tests run; and sockets that use them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

PASSWORD = "open sesame"


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    authority: str
    server: str
    """Certificate and key in one file."""
    certificate: str
    """The server's, without the key."""
    key: str
    encrypted_key: str
    """With :data:`PASSWORD`."""
    client: str
    """Certificate and key of a client that the authority vouches for."""
    stranger: str
    """The same of one that it does not know."""

    def client_context(self, certificate: str = "", *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Return what a client needs that trusts the server. Args: certificate: what it shows, if asked."""
        context = ssl.create_default_context(cafile=self.authority)
        if certificate:
            context.load_cert_chain(certificate)
        if version is not None:
            context.maximum_version = version
        return context


def make_certificates(directory: Path) -> Certificates:
    """Write the files. The authority is the same for the whole run: making one takes a while."""
    ca, server, client, stranger = _made()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    names = {"server": server, "client": client, "stranger": stranger}
    for name, issued in names.items():
        issued.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}.pem")
    key = server.private_key_pem.bytes()
    (directory / "key.pem").write_bytes(key)
    (directory / "certificate.pem").write_bytes(b"".join(each.bytes() for each in server.cert_chain_pems))
    encryption = BestAvailableEncryption(PASSWORD.encode())
    encrypted = load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    (directory / "encrypted.pem").write_bytes(encrypted)
    files = ("ca", "server", "certificate", "key", "encrypted", "client", "stranger")
    return Certificates(*(str(directory / f"{name}.pem") for name in files))


@cache
def _made() -> tuple[trustme.CA, trustme.LeafCert, trustme.LeafCert, trustme.LeafCert]:
    ca = trustme.CA(organization_name="Authority")
    return (
        ca,
        ca.issue_cert("localhost", "127.0.0.1", "::1"),
        ca.issue_cert("ada@example.org", common_name="Ada, of Ockham", organization_name="Engine & Co"),
        trustme.CA().issue_cert("mallory@example.org"),
    )
