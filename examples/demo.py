"""See projections fail, park, heal and drain: `make demo`, or `python examples/demo.py --help`.

It is in the package, so that `projection-guard demo` has it, too: projection_guard/demo/.
"""

from __future__ import annotations

import sys

from projection_guard.demo import main

if __name__ == "__main__":
    sys.exit(main())
