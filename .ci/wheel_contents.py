"""Look into a built wheel: everything that must be in it is, and nothing else: `wheel_contents.py FILE.whl`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

wheel = Path(sys.argv[1])
with zipfile.ZipFile(wheel) as archive:
    inside = set(archive.namelist())
    metadata, entries = (
        archive.read(next(name for name in inside if name.endswith(f".dist-info/{name_of}"))).decode()
        for name_of in ("METADATA", "entry_points.txt")
    )

wanted = {
    path.as_posix()
    for path in Path("projection_guard").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
} | {"pytest_projection_guard.py"}
problems = [f"missing: {name}" for name in sorted(wanted - inside)]
problems += [f"too much: {name}" for name in sorted(inside - wanted) if ".dist-info/" not in name]
if not any(name.endswith(".dist-info/licenses/LICENSE") for name in inside):
    problems.append("missing: the licence")
if "License-Expression: Apache-2.0" not in metadata:
    problems.append("the metadata does not name the licence")
if "projection_guard = pytest_projection_guard" not in entries:
    problems.append("pytest is not told of its plugin")
for must in ("projection_guard/py.typed", "projection_guard/migrations/"):
    if not any(name.startswith(must) for name in inside):
        problems.append(f"missing: {must}")

print(f"{wheel.name}: {len(inside)} files, {wheel.stat().st_size // 1024} KiB")
sys.exit("\n".join(problems) or None)
