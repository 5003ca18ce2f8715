"""The commands of the site; `tests/site/__init__.py` lists them."""

from __future__ import annotations

import sys

from . import elsewhere, reference, staging
from .names import ROOT


def main(words: list[str]) -> str | None:
    """Do what was asked; return what is wrong, one thing a line."""
    match words:
        case ["reference"]:
            reference.write()
        case ["stage"]:
            staging.stage()
        case ["check"]:
            return "\n".join(elsewhere.loads(ROOT / "site")) or None
        case ["links"]:
            return "\n".join(elsewhere.dead_links()) or None
        case _:
            return "python -m tests.site reference | stage | check | links"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
