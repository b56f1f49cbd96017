"""``wsgi.file_wrapper``: a file that an application gives as its response.

Source: PEP 3333, "Optional Platform-Specific File Handling".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BLOCK_BYTES = 65536


class FileWrapper:
    """The blocks of a file-like object, which is closed with it."""

    def __init__(self, filelike: Any, block_size: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        """Yield what is left of the file."""
        while block := self.filelike.read(self.block_size):
            yield block
