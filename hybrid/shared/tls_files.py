"""The files of TLS, opened by the parent: it still has the rights that the mold gives up.

A key is mostly readable by root alone. The parent opens, and reads nothing; the mold inherits the descriptors, reads
them once, and closes them before it runs any code of the app's.
"""

from __future__ import annotations

import os

from hybrid.shared.tls_settings import TlsSettings


def open_tls_files(tls: TlsSettings) -> dict[str, int]:
    """Return a descriptor for each file, by path; the caller closes them.

    Runs in: parent. Raises: nothing: a file that cannot be opened is missing, and whoever wants to read it says why.
    """
    opened = {}
    for path in (tls.certfile, tls.keyfile, tls.ca_certs):
        if path and path not in opened:
            try:
                opened[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                pass
    return opened
