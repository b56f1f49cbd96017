"""``python …/hybrid/parent/__main__.py FD``: the parent, from settings in a memfd. Every door ends here."""

import os
import signal
import sys

# Started by path, CPython 3.10 puts this directory first on sys.path; nothing may shadow the standard library.
if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
    del sys.path[0]
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if "hybrid" not in sys.modules:
    # The package that this file belongs to, whatever else is installed under its name: half of each would run.
    # Its rooms are found through it; nothing else is looked for beside it, not even what it imports itself.
    import typing  # noqa: F401

    sys.path.insert(0, _ROOT)
    import hybrid  # noqa: F401

    del sys.path[0]

from hybrid.ground.errors import ExitCode, HybridError  # noqa: E402  # the path comes first
from hybrid.parent import main as shell  # noqa: E402
from hybrid.parent.house import House  # noqa: E402
from hybrid.shared import prctl  # noqa: E402
from hybrid.shared.settings import from_json  # noqa: E402
from hybrid.shared.start import open_standard_descriptors  # noqa: E402


def main(argv: list[str]) -> int:
    """Build the house, run the pool, return the exit code."""
    if len(argv) != 2 or not argv[1].isdigit():
        sys.stderr.write("usage: python -m hybrid.parent FD   (FD: a descriptor that holds settings as JSON)\n")
        return ExitCode.USAGE
    open_standard_descriptors()
    settings_fd = int(argv[1])
    os.set_inheritable(settings_fd, False)
    settings = from_json(os.pread(settings_fd, 1 << 24, 0).decode())
    prctl.set_name("hybrid: parent")
    prctl.become_subreaper()
    try:
        house = House(settings, settings_fd)
    except HybridError as error:
        sys.stderr.write(f"hybrid: error: {error}\n")
        return error.exit_code
    try:
        house.build()
        return shell.run(house)
    except HybridError as error:
        house.log.write("error", str(error))
        cause = error.__cause__
        number = cause.errno or 0 if isinstance(cause, OSError) else 0
        house.tell_failure(error.exit_code, str(error), "", number)
        return error.exit_code
    finally:
        # A signal that comes while the interpreter shuts down, its handlers gone, would be our exit status.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        house.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
