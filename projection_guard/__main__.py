"""`python -m projection_guard`: the command line, wherever its script is not on the path."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
