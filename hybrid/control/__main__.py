"""``python …/hybrid/control/__main__.py ORDERS``: the control process, from orders that the parent passes as JSON."""

import os
import sys

if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
    del sys.path[0]  # see hybrid/parent/__main__.py
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if "hybrid" not in sys.modules:
    # The package that this file belongs to, whatever else is installed under its name: half of each would run.
    # Its rooms are found through it; nothing else is looked for beside it, not even what it imports itself.
    import typing  # noqa: F401

    sys.path.insert(0, _ROOT)
    import hybrid  # noqa: F401

    del sys.path[0]

from hybrid.control.main import main  # noqa: E402  # the path comes first

if __name__ == "__main__":
    sys.exit(main(sys.argv))
