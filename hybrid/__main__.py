"""``python -m hybrid``: the same door as ``hybrid-serve``."""

import os
import sys

# -m puts the working directory first, where a file called rich.py would be taken for the library. The app's own
# import path is made from --app-dir, whose default is the working directory, so the two doors are alike.
if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)) and sys.path[:1] in ([""], [os.getcwd()]):
    del sys.path[0]

from hybrid.cli.serve import main

if __name__ == "__main__":
    sys.exit(main())
