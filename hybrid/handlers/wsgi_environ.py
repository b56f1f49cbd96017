"""The environ of a WSGI request: plain functions from what is known to variables.

Sources: PEP 3333, "environ Variables"; RFC 3875 §4.1; mod_ssl, "Environment Variables" (their names).
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from hybrid.connection.addresses import UNKNOWN, Address
from hybrid.handlers.asgi_tls import tls_extension
from hybrid.http.fields import Fields
from hybrid.http.head import Head
from hybrid.http.remember import remember

Environ = dict[str, Any]

_UNWANTED: Final = ""
_OWN_KEYS: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH", b"proxy": _UNWANTED}
_keys: Final[dict[bytes, str]] = {}
"""Names of fields that were met, and their variables."""
_KEYS_COUNT: Final = 512
_KEY_BYTES: Final = 64
"""Longer names are not kept."""


def key_of(name: bytes) -> str:
    """Return the variable of a header field, whose name is in lower case; empty: it gets none.

    A name with an underscore gets none: ``X_User`` would become the same variable as ``X-User``, which a proxy may have
    set or taken out (S11). Nor does Proxy, whose variable HTTP clients take for the user's own setting (S40, httpoxy).
    """
    key = _keys.get(name)
    if key is None:
        key = _OWN_KEYS.get(name)
        if key is None:
            key = _UNWANTED if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        if len(name) <= _KEY_BYTES:
            remember(_keys, name, key, _KEYS_COUNT)
    return key


def add_fields(environ: Environ, fields: Fields) -> None:
    """Add the variables of all header fields. What came several times is one list, as RFC 9110 §5.3 has it."""
    # hot: WSGI with 12 headers; the lookup is key_of's, written out.
    known = _keys.get
    seen: Environ = {}
    for name, value in fields.pairs:
        key = known(name)
        if key is None:
            key = key_of(name)
        if key in seen:
            seen[key] += ("; " if name == b"cookie" else ",") + value.decode("latin-1")
        else:
            seen[key] = value.decode("latin-1")
    seen.pop(_UNWANTED, None)
    environ.update(seen)


def add_line(environ: Environ, head: Head) -> None:
    """Add what the request line says. Bytes of the path are a character each: PEP 3333, "Unicode Issues"."""
    raw_path = head.raw_path
    environ["REQUEST_METHOD"] = head.method
    environ["PATH_INFO"] = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("latin-1")
    environ["QUERY_STRING"] = head.query_string.decode("latin-1")
    environ["RAW_URI"] = environ["REQUEST_URI"] = head.target.decode("latin-1")
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.version == "1.1" else "HTTP/1.0"


def server_variables(server: Address, scheme: str) -> Environ:
    """Return SERVER_NAME and SERVER_PORT, which are never empty: a unix socket is at localhost."""
    if server == UNKNOWN or isinstance(server, str):
        return {"SERVER_NAME": "localhost", "SERVER_PORT": "443" if scheme == "https" else "80"}
    host, port = server
    name = host.partition("%")[0]
    return {"SERVER_NAME": f"[{name}]" if ":" in name else name, "SERVER_PORT": str(port)}


def client_variables(peer: Address) -> Environ:
    """Return REMOTE_ADDR, which is empty for a unix socket's peer, and REMOTE_PORT if there is one."""
    if peer == UNKNOWN or isinstance(peer, str):
        return {"REMOTE_ADDR": ""}
    return {"REMOTE_ADDR": peer[0], "REMOTE_PORT": str(peer[1])}


def tls_variables(session: ssl.SSLObject) -> Environ:
    """Return what is told of TLS, in mod_ssl's words; of the client's certificate only what was verified."""
    told = tls_extension(session)
    cipher = session.cipher()
    variables: Environ = {"HTTPS": "on", "SSL_PROTOCOL": session.version() or "", "SSL_CLIENT_VERIFY": "NONE"}
    if cipher:
        variables["SSL_CIPHER"] = cipher[0]
    if told["client_cert_chain"]:
        variables["SSL_CLIENT_VERIFY"] = "SUCCESS"
        variables["SSL_CLIENT_CERT"] = told["client_cert_chain"][0]
        if told["client_cert_name"] is not None:
            variables["SSL_CLIENT_S_DN"] = told["client_cert_name"].encode().decode("latin-1")
    return variables
