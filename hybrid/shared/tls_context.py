"""One ``ssl.SSLContext`` for the server, made before the workers are forked.

Made once, in the mold: so the key is read once, and every worker inherits the keys that session tickets are sealed
with; a client that comes back resumes its session at whichever worker it meets.

Source: RFC 8446 (TLS 1.3), RFC 5077 (tickets), RFC 7301 (ALPN); CPython ``ssl``, "Security considerations".
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from hybrid.ground.errors import UsageError
from hybrid.shared.tls_settings import TlsSettings

_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_MOST_BYTES = 1 << 24
"""Of a file; the largest bundles of authorities have a few hundred kilobytes."""
_WRONG_KEY = "KEY_VALUES_MISMATCH"


class ServerContext(ssl.SSLContext):
    """A context that knows the certificate it shows: ``ssl`` itself does not tell."""

    certificate_pem: str | None = None


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a listener needs to speak TLS."""

    context: ServerContext
    handshake_s: float


def server_tls(tls: TlsSettings, opened: Mapping[str, int] | None = None) -> ServerTls | None:
    """Return what the settings ask for; None: no TLS.

    Runs in: mold, before it forks; or the process that serves without a pool.
    Args: opened: descriptors of files that were opened by somebody with more rights, by path.
    Raises: UsageError: a file cannot be read or used. Never asks for a password at the terminal.
    """
    if not tls.certfile:
        return None
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # An end without close_notify is an end: else OpenSSL 3 would take the session for broken, and a blocking handler
    # that is shown the end of its stream could not answer any more.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    opened = opened or {}
    certificate = _read("--ssl-certfile", tls.certfile, opened)
    key = _read("--ssl-keyfile", tls.keyfile, opened) if tls.keyfile else certificate
    _check_kinds(tls, certificate, key)
    with (
        _path_of(tls.certfile, certificate, opened) as certificate_path,
        _path_of(tls.keyfile or tls.certfile, key, opened) as key_path,
    ):
        _load_pair(context, tls, certificate_path, key_path)
    context.certificate_pem = _first_certificate(certificate)
    if tls.ca_certs:
        _load_authorities(context, tls.ca_certs, opened)
    context.verify_mode = _VERIFY[tls.verify]
    return ServerTls(context, tls.handshake_s)


def _read(flag: str, path: str, opened: Mapping[str, int]) -> bytes:
    try:
        if path in opened:
            return os.pread(opened[path], _MOST_BYTES, 0)
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot read {flag} {path}: {error.strerror}. Give a file that this server may read."
        ) from error


def _key_option(tls: TlsSettings) -> str:
    return f"--ssl-keyfile {tls.keyfile}" if tls.keyfile else f"--ssl-certfile {tls.certfile}"


def _check_kinds(tls: TlsSettings, certificate: bytes, key: bytes) -> None:
    """Refuse files that are something else: OpenSSL would say "no start line"."""
    if b"CERTIFICATE-----" not in certificate:
        raise UsageError(
            f"cannot use --ssl-certfile {tls.certfile}: there is no certificate in it. Give a PEM file: its first line "
            "is -----BEGIN CERTIFICATE-----."
        )
    if b"PRIVATE KEY-----" not in key:
        raise UsageError(
            f"cannot use {_key_option(tls)}: there is no private key in it. Give the key of the certificate, as PEM, "
            "with --ssl-keyfile."
        )


def _load_pair(context: ServerContext, tls: TlsSettings, certificate_path: str, key_path: str) -> None:
    is_asked = False

    def password() -> str:
        # Instead of OpenSSL's own question at the terminal, which would hold up a boot for ever.
        nonlocal is_asked
        is_asked = True
        return tls.keyfile_password

    try:
        context.load_cert_chain(certificate_path, key_path, password)
    except (ssl.SSLError, ValueError) as error:  # ValueError: a password that is too long
        if is_asked and not tls.keyfile_password:
            why = "the key is encrypted. Give its password: HYBRID_SSL_KEYFILE_PASSWORD in the environment"
        elif getattr(error, "reason", None) == _WRONG_KEY:
            why = f"it is not the key of the certificate {tls.certfile}. Give the one that belongs to it"
        elif is_asked:
            why = "the password that was given does not open the key. Correct --ssl-keyfile-password"
        else:
            why = f"OpenSSL does not take certificate and key ({_reason(error)}). Give both as PEM"
        raise UsageError(f"cannot use {_key_option(tls)}: {why}.") from None


def _load_authorities(context: ServerContext, path: str, opened: Mapping[str, int]) -> None:
    authorities = _read("--ssl-ca-certs", path, opened)
    try:
        with _path_of(path, authorities, opened) as file:
            context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise UsageError(
            f"cannot use --ssl-ca-certs {path}: OpenSSL finds no certificate in it ({_reason(error)}). Give a PEM file "
            "of the authorities' certificates."
        ) from None


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()


def _first_certificate(pem: bytes) -> str | None:
    text, begin, end = pem.decode("ascii", "replace"), "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.find(begin)
    return text[start : text.index(end, start) + len(end)] + "\n" if start >= 0 else None


@contextmanager
def _path_of(path: str, data: bytes, opened: Mapping[str, int]) -> Iterator[str]:
    """Yield a path at which ``data`` can be read: OpenSSL takes paths, and the real one may be closed to us."""
    if path not in opened:
        yield path
        return
    fd = os.memfd_create("hybrid-tls", os.MFD_CLOEXEC)
    try:
        while data:
            data = data[os.write(fd, data) :]
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
