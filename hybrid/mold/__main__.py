"""``python …/hybrid/mold/__main__.py ORDERS``: the mold, from orders that the parent passes as JSON."""

import os
import sys

if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
    del sys.path[0]  # see hybrid/parent/__main__.py
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from hybrid.mold.main import main  # noqa: E402  # the path comes first

if __name__ == "__main__":
    sys.exit(main(sys.argv))
