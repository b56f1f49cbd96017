"""How long a uvloop loop waits, from the libuv inside it.

uvloop offers no such figure, but a way to its ``uv_loop_t`` (``libuv_get_loop_t_ptr``, for extensions), and its
shared library exports what libuv has to say. Both are probed: where one is missing (a build with hidden symbols,
another libuv) the answer is "unknown", not a guess.

Source: libuv, "Metrics operations": uv_metrics_idle_time needs UV_METRICS_IDLE_TIME set on the loop (since 1.39).
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Protocol

_UV_METRICS_IDLE_TIME = 1  # enum uv_loop_option

# A prototype of our own: restype and argtypes of ctypes.pythonapi's are everybody's.
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class Loop(Protocol):
    """What is asked of a loop."""

    def is_closed(self) -> bool:
        """Return whether the loop's memory may no longer be looked at."""
        ...


class LibuvIdle:
    """The idle clock of one uvloop loop. Make it with :meth:`of`.

    Runs in: the loop's thread. Closes: nothing; it keeps the loop's memory alive, and answers None once it is closed.
    """

    def __init__(self, loop: Loop, pointer: int, library: ctypes.CDLL) -> None:
        self._loop = loop
        self._pointer = ctypes.c_void_p(pointer)
        self._idle_time = library.uv_metrics_idle_time
        self._idle_time.restype = ctypes.c_uint64
        self._idle_time.argtypes = (ctypes.c_void_p,)

    @classmethod
    def of(cls, loop: Loop, extension: ModuleType) -> LibuvIdle | None:
        """Begin to measure ``loop``; None: this build of uvloop does not let us.

        To be called before the loop first runs: what it waited until now does not count.
        Args: extension: the module ``uvloop.loop``.
        """
        try:
            # uvloop takes any object for a loop of its own, and would return whatever memory it finds in it.
            if not isinstance(loop, extension.Loop):
                return None
            pointer = _capsule_pointer(extension.libuv_get_loop_t_ptr(loop), None)
            # PyDLL, because the calls are shorter than letting go of the interpreter's lock. The library is loaded
            # already: this finds it again by its path, and looks for names in it and in what it is linked with.
            library = ctypes.PyDLL(str(extension.__file__))
            configure = library.uv_loop_configure
            configure.restype = ctypes.c_int
            configure.argtypes = (ctypes.c_void_p, ctypes.c_int)
            if not pointer or configure(pointer, _UV_METRICS_IDLE_TIME) != 0:
                return None
            return cls(loop, pointer, library)
        except (AttributeError, OSError, TypeError, ValueError):  # no such name, no library, no capsule
            return None

    def idle_ns(self) -> int | None:
        """Return how long the loop has waited, in ns; None once it is closed."""
        if self._loop.is_closed():
            return None
        return int(self._idle_time(self._pointer))
