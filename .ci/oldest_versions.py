"""Say what is installed, and fail if a core dependency is not at the lower bound that pyproject.toml gives."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_TRIED = ("binary", "demo", "test", "eventsource")  # the last one is for Python 3.13 only
problems = []
extras = project["optional-dependencies"]
tried = [
    *project["dependencies"],
    *(each for name, extra in extras.items() if name not in NOT_TRIED for each in extra),
]
for requirement in tried:
    found = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z,]+\])?>=([0-9.]+)", requirement)
    if not found:
        problems.append(f"{requirement}: has no plain lower bound")
        continue
    name, bound = found.groups()
    installed = version(name)
    print(f"{name} {installed}")
    if installed != bound:
        problems.append(f"{name}: {installed} is installed, {bound} was to be tried")
sys.exit("\n".join(problems) or None)
