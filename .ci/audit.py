"""Ask whether what users install with us has known vulnerabilities; say NOT RUN where nobody can be asked.

Only what the package needs and its extras for production: tools of this checkout are nobody's risk but ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("binary", "aiosqlite", "fastapi", "flask")
PATIENCE_SECONDS = 45


def needed(name: str, extras: tuple[str, ...], found: dict[str, str]) -> dict[str, str]:
    """Collect what is installed here because of a package, with its version."""
    for line in requires(name) or ():
        requirement = Requirement(line)
        is_wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras))
        if not is_wanted or requirement.name in found:
            continue
        try:
            found[requirement.name] = version(requirement.name)
        except PackageNotFoundError:
            continue
        needed(requirement.name, tuple(requirement.extras), found)
    return found


def main() -> int:
    """Return 1 where something is vulnerable, else 0."""
    pinned = sorted(f"{name}=={at}" for name, at in needed("projection-guard", EXTRAS, {}).items())
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
