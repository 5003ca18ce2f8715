"""Ask whether what users install with us has known vulnerabilities; say NOT RUN where nobody can be asked.

Only what the package needs and its extras for production: tools of this checkout are nobody's risk but ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("binary", "aiosqlite", "alerts", "fastapi", "flask")
PATIENCE_SECONDS = 45


def needed(name: str, extras: tuple[str, ...], found: dict[str, str], seen: set[tuple[str, str]]) -> dict[str, str]:
    """Collect what is installed here because of a package and its extras, with its version."""
    for extra in ("", *extras):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            try:
                found[canonicalize_name(requirement.name)] = version(requirement.name)
            except PackageNotFoundError:
                continue
            needed(requirement.name, tuple(requirement.extras), found, seen)
    return found


def main() -> int:
    """Return 1 where something is vulnerable, or the tool that says so is not there, else 0."""
    if find_spec("pip_audit") is None:
        print("pip-audit is not installed: make .venv/.lint")
        return 1
    pinned = sorted(f"{name}=={at}" for name, at in needed("projection-guard", EXTRAS, {}, set()).items())
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join(pinned), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        command += ["--format", "json", "--timeout", "5", "--requirement", str(listed)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
            answered = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            print("NOT RUN: no service that knows of vulnerabilities can be reached from here")
            return 0
    asked = [each for each in answered if "skip_reason" not in each]
    if not asked:
        print("NOT RUN: the package index here knows nothing of vulnerabilities")
        return 0
    vulnerable = [(each["name"], each["version"], each["vulns"]) for each in asked if each["vulns"]]
    for name, at, known in vulnerable:
        print(f"{name} {at}: {', '.join(one['id'] for one in known)}")
    print(f"{len(asked)} of {len(answered)} packages were looked up, {len(vulnerable)} are vulnerable")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
