"""ASGI's ``tls`` extension: what an application is told of the TLS below its connection.

Source: ASGI TLS Extension 0.2; RFC 4514 (distinguished names as text); the IANA registry of cipher suites.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache
from typing import Any

from hybrid.shared.tls_context import ServerContext

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""Of RFC 4514 §3; other attributes keep the name that OpenSSL gives them."""


def tls_extension(ssl_object: ssl.SSLObject) -> dict[str, Any]:
    """Return ``scope["extensions"]["tls"]`` of a connection whose handshake is complete.

    Runs in: worker. It costs some 10 µs, 50 with a client's certificate: once for each connection is enough.
    ``client_cert_error`` is always None: a client whose certificate is not good gets no connection.
    """
    context = ssl_object.context
    cipher = ssl_object.cipher()
    chain = _client_chain(ssl_object)
    subject = (ssl_object.getpeercert() or {}).get("subject") if chain else None
    return {
        "server_cert": context.certificate_pem if isinstance(context, ServerContext) else None,
        "client_cert_chain": chain,
        "client_cert_name": None if subject is None else _distinguished_name(subject),
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(ssl_object.version() or ""),
        "cipher_suite": _suite(cipher[0], context) if cipher else None,
    }


def _client_chain(ssl_object: ssl.SSLObject) -> tuple[str, ...]:
    """Return the client's certificate, then those it sent along; CPython < 3.13 tells of the first only."""
    certificate = ssl_object.getpeercert(True)
    if not certificate:
        return ()
    get_chain = getattr(ssl_object, "get_unverified_chain", tuple)
    chain: Sequence[bytes] = get_chain() or (certificate,)  # of a session that was resumed only the first is left
    return tuple(map(ssl.DER_cert_to_PEM_cert, chain))


@cache
def _suite(name: str, context: ssl.SSLContext) -> int | None:
    """Return the number of a suite in the IANA registry; OpenSSL's own has two bytes more in front."""
    return next((each["id"] & 0xFFFF for each in context.get_ciphers() if each["name"] == name), None)


def _distinguished_name(subject: Any) -> str:
    """Return a subject, as ``getpeercert`` has it, in the order of RFC 4514 §2.1: the last part first."""
    return ",".join("+".join(f"{_SHORT_NAMES.get(key, key)}={_escaped(value)}" for key, value in part)
                    for part in reversed(subject))  # fmt: skip


def _escaped(value: str) -> str:
    """Escape what has a meaning in a distinguished name. Source: RFC 4514 §2.4."""
    escaped = "".join(f"\\{each}" if each in '"+,;<>\\' else "\\00" if each == "\0" else each for each in value)
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    if escaped.endswith(" ") and len(value) > 1:
        escaped = f"{escaped[:-1]}\\ "
    return escaped
