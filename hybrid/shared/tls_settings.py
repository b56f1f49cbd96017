"""The options of TLS: the server's certificate, and what it asks of its clients'."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.errors import UsageError
from hybrid.shared.declare import option


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What every listener speaks: TLS, if there is a certificate."""

    certfile: str = option(
        "",
        "Certificate of the server, PEM, its chain behind it: every listener speaks TLS.",
        more="Read once, by the process that forks the workers, before `--user` counts. See "
        "[Serve over TLS](../how-to/tls.md).",
        flag="--ssl-certfile",
        parse="existing_file",
        metavar="PATH",
    )
    keyfile: str = option(
        "",
        "Private key of the certificate, PEM; by default it is in --ssl-certfile.",
        flag="--ssl-keyfile",
        parse="existing_file",
        metavar="PATH",
    )
    keyfile_password: str = option(
        "",
        "What an encrypted key is opened with; better from the environment.",
        more="On the command line, other users of the machine may see it until the server runs. It is never shown: "
        "neither by `--print-config` nor in a message.",
        flag="--ssl-keyfile-password",
        parse="secret",
        metavar="TEXT",
        secret=True,
    )
    ca_certs: str = option(
        "",
        "Certificates, PEM, of the authorities that clients' certificates must come from.",
        flag="--ssl-ca-certs",
        parse="existing_file",
        metavar="PATH",
    )
    verify: str = option(
        "none",
        "Whether clients are asked for a certificate.",
        more="none: they are not; optional: one that a client has is checked; required: a client without one is "
        "turned away. Needs `--ssl-ca-certs`.",
        flag="--ssl-verify",
        choices=("none", "optional", "required"),
    )
    handshake_s: float = option(
        10.0,
        "Time for a TLS handshake; then the connection is cut.",
        flag="--ssl-handshake-timeout",
        parse="positive_seconds",
        metavar="SECONDS",
    )


def check_tls(tls: TlsSettings) -> None:
    """Refuse what contradicts itself. Raises: UsageError: says what is missing."""
    if not tls.certfile:
        if tls.keyfile:
            raise UsageError(f"cannot use --ssl-keyfile {tls.keyfile} without its certificate. Give --ssl-certfile.")
        if tls.keyfile_password:
            raise UsageError("cannot use --ssl-keyfile-password: there is no key to open. Give --ssl-certfile.")
        if tls.ca_certs:
            raise UsageError(f"cannot use --ssl-ca-certs {tls.ca_certs} without TLS. Give --ssl-certfile.")
        if tls.verify != "none":
            raise UsageError(f"cannot use --ssl-verify {tls.verify} without TLS. Give --ssl-certfile.")
    if tls.verify != "none" and not tls.ca_certs:
        raise UsageError(
            f"cannot use --ssl-verify {tls.verify}: nothing says which certificates are good. Give --ssl-ca-certs."
        )
    if tls.ca_certs and tls.verify == "none":
        raise UsageError(
            f"cannot use --ssl-ca-certs {tls.ca_certs}: clients are not asked for a certificate. Add --ssl-verify "
            "required, or optional."
        )
