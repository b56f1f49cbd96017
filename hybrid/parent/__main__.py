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
from hybrid.parent import handover  # noqa: E402
from hybrid.parent import main as shell  # noqa: E402
from hybrid.parent.house import House  # noqa: E402
from hybrid.shared import boot_report, prctl  # noqa: E402
from hybrid.shared.privileges import resolve_user  # noqa: E402
from hybrid.shared.settings import Settings, from_json  # noqa: E402
from hybrid.shared.start import open_standard_descriptors, settings_memfd  # noqa: E402

USAGE = """\
usage: python -m hybrid.parent SETTINGS [HANDOVER] | check HANDOVER REPORT
Each is the number of a descriptor: of settings as JSON; of what the program that was in this process before has left;
of a boot report.
"""


def _check(handover_fd: int, report_fd: int) -> int:
    """Say in the report whether this program could take over."""
    try:
        process = handover.check(handover_fd).settings.process
        if process.user or process.group:
            resolve_user(process.user, process.group)
    except HybridError as error:
        boot_report.write(report_fd, boot_report.Report("upgrade", str(error), error.detail, error.exit_code))
        return error.exit_code
    return ExitCode.OK


def _take_over(settings_fd: int, handover_fd: int) -> int:
    """Go on where the program before us in this process stopped; return the exit code."""
    try:
        held = handover.read(handover_fd)
    except HybridError as error:  # it could a moment ago; the workers see our end, and drain
        sys.stderr.write(f"hybrid: error: {error}\n")
        return error.exit_code
    os.close(handover_fd)
    settings_fd = _written_anew(settings_fd, held.settings)
    prctl.set_name("hybrid: parent")
    prctl.become_subreaper()
    house = House(held.settings, settings_fd, held.log)
    try:
        return shell.go_on(house, held)
    except HybridError as error:
        house.log.write("error", str(error))
        return error.exit_code
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        house.close()


def _written_anew(settings_fd: int, settings: Settings) -> int:
    """Return the settings as this program writes them: for molds and resolvers, which read no other version's."""
    try:
        fresh = settings_memfd(settings)
    except OSError:
        return settings_fd  # those are as good, if no option came or went
    os.close(settings_fd)
    return fresh


def main(argv: list[str]) -> int:
    """Build the house, run the pool, return the exit code."""
    arguments = argv[1:]
    if arguments[:1] == ["check"] and len(arguments) == 3 and all(each.isdigit() for each in arguments[1:]):
        return _check(int(arguments[1]), int(arguments[2]))
    if not 1 <= len(arguments) <= 2 or not all(each.isdigit() for each in arguments):
        sys.stderr.write(USAGE)
        return ExitCode.USAGE
    open_standard_descriptors()
    settings_fd = int(arguments[0])
    os.set_inheritable(settings_fd, False)
    if len(arguments) == 2:
        return _take_over(settings_fd, int(arguments[1]))
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
