"""``python …/hybrid/cli/__main__.py ORDERS``: read a running server's options anew, from orders in JSON.

Started by the parent at a reload, in its environment. What comes out is written into the memfds that the orders name:
the settings, or a report of why there are none.
"""

import os
import sys

if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
    del sys.path[0]  # see hybrid/parent/__main__.py
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if "hybrid" not in sys.modules:
    # The package that this file belongs to, as in hybrid/mold/__main__.py.
    import typing  # noqa: F401

    sys.path.insert(0, _ROOT)
    import hybrid  # noqa: F401

    del sys.path[0]

from hybrid.cli.resolve_again import main  # noqa: E402  # the path comes first

if __name__ == "__main__":
    sys.exit(main(sys.argv))
