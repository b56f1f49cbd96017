"""Becomes a command that ends when the process that started it does: ``tethered.py PID COMMAND…``.

Run with ``-I``; standard library only. The bench may be killed outright, and its servers are in sessions of their own.
Source: prctl(2) PR_SET_PDEATHSIG, which is kept across exec.
"""

import ctypes
import os
import signal
import sys

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # it died before we could ask to be told
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])
