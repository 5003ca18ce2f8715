"""Make a release, up to the upload: `release.py --out FOLDER [--tag v1.2.3]`. Without a tag it is a rehearsal.

With a tag it refuses what must not be released: a tree that is not clean, a tag that is not here or not this version's,
a changelog without a section for it. A rehearsal says what it would have refused, and makes everything from the files
as they are. In FOLDER are then

    dist/                        wheel and sdist, built twice, in different places, and the same byte by byte
    projection-guard.cdx.json    SBOM (CycloneDX) of an environment in which only the wheel was installed
    SHA256SUMS                   of all of these
    notes.md                     the changelog's section

It needs what `make .venv/.release` installs, and is what `.ci/run wheel` runs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SBOM: Final = "projection-guard.cdx.json"


def ran(*command: str | Path, at: Path = ROOT, more: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed. Raises `SystemExit` with all of that where it fails."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(more or {})}
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def version_of(root: Path) -> str:
    """Return the version that pyproject.toml gives."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def section(changelog: str, heading: str) -> str | None:
    """Return what the changelog says of a version, without its heading; None where there is no section for it."""
    found = re.search(rf"^## \[?{re.escape(heading)}\]?( - \d{{4}}-\d{{2}}-\d{{2}})?$", changelog, re.MULTILINE)
    if not found:
        return None
    return re.split(r"^## |^\[[^]]+\]: ", changelog[found.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()


def refusals(root: Path, tag: str) -> list[str]:
    """Say what stands against a release of this tree under this tag."""
    version, said = version_of(root), []
    if ran("git", "status", "--porcelain", at=root).strip():
        said.append("the tree is not clean: commit, or take away, what `git status` lists")
    if tag != f"v{version}":
        said.append(f"the tag is {tag!r}, and the version in pyproject.toml {version!r}: that is v{version}")
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", version):
        said.append(f"{version!r} is no version to release: 1.2.3, or 1.2.3rc1")
    at = ran("git", "tag", "--points-at", "HEAD", at=root).split()
    if tag not in at:
        said.append(f"no tag {tag!r} points at HEAD: git tag --sign {tag}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not section(changelog, version):
        said.append(f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD` with anything in it")
    elif not re.search(rf"^## \[?{re.escape(version)}\]? - ", changelog, re.MULTILINE):
        said.append(f"the section {version} of CHANGELOG.md has no date")
    if section(changelog, "Unreleased"):
        said.append("CHANGELOG.md still has something under `## Unreleased`: move it to the version's section")
    return said


def files_of(root: Path) -> list[str]:
    """Return what git tracks, and what it would track: what is in the tree and not ignored."""
    listed = ran("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", at=root).split("\0")
    return sorted(name for name in listed if name and (root / name).is_file())


def copied(files: Sequence[str], to: Path, *, umask: int) -> Path:
    """Copy the tree, without anything that git ignores, as one whose umask is that would check it out."""
    for name in files:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)
        (to / name).chmod((0o777 if os.access(ROOT / name, os.X_OK) else 0o666) & ~umask)
    return to


def built(tree: Path, to: Path, *, epoch: str, zone: str, umask: int) -> dict[str, str]:
    """Build sdist, and the wheel from it; return their names and digests."""
    before = os.umask(umask)
    try:
        ran(sys.executable, "-m", "build", "--no-isolation", "--outdir", to, tree,
            more={"SOURCE_DATE_EPOCH": epoch, "TZ": zone})  # fmt: skip
    finally:
        os.umask(before)
    return {path.name: digest(path) for path in sorted(to.iterdir())}


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def built_twice(files: Sequence[str], place: Path, to: Path) -> tuple[Path, Path]:
    """Build in two places, with other modes and in another time zone. Raises `SystemExit` unless both are the same."""
    epoch = ran("git", "log", "-1", "--format=%ct").strip()
    one, another = copied(files, place / "one", umask=0o022), copied(files, place / "another", umask=0o077)
    first = built(one, to, epoch=epoch, zone="UTC", umask=0o022)
    again = built(another, place / "again", epoch=epoch, zone="Asia/Tokyo", umask=0o077)
    if first != again:
        sys.exit(f"Two builds of the same files differ:\n{first}\n{again}")
    (wheel,), (sdist,) = to.glob("*.whl"), to.glob("*.tar.gz")
    print(f"built twice, the same byte by byte (SOURCE_DATE_EPOCH={epoch})")
    return wheel, sdist


def look_into(wheel: Path, sdist: Path, files: Sequence[str]) -> None:
    """Compare what is in both with what has to be. Raises `SystemExit`."""
    print(ran(sys.executable, ROOT / ".ci" / "wheel_contents.py", wheel), end="")
    with tarfile.open(sdist) as archive:
        inside = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    wanted = set(files)
    problems = [f"missing: {name}" for name in sorted(wanted - inside)]
    problems += [f"too much: {name}" for name in sorted(inside - wanted - {"PKG-INFO"})]
    if problems:
        sys.exit("\n".join([f"{sdist.name}:", *problems]))
    print(f"{sdist.name}: {len(inside)} files, {sdist.stat().st_size // 1024} KiB")
    ran(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    print("twine check --strict: the metadata is what PyPI takes, and the README can be shown")


def used(wheel: Path, place: Path) -> Path:
    """Install the wheel where nothing else is, without extras, and use it. Returns that environment's interpreter."""
    ran(sys.executable, "-m", "venv", "--without-pip", place / "venv")
    python = place / "venv" / "bin" / "python"
    ran(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel)
    ran(sys.executable, "-m", "pip", "--python", python, "check")
    shutil.copy(ROOT / ".ci" / "smoke.py", place / "smoke.py")
    print(ran(python, "-I", "-W", "error", "smoke.py", at=place), end="")
    return python


def list_parts(python: Path, to: Path) -> None:
    """Write the SBOM of an environment, the same for the same environment."""
    ran(
        *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--validate"),
        *("--spec-version", "1.6", "--mc-type", "library", "--pyproject", ROOT / "pyproject.toml"),
        *("--output-format", "JSON", "--output-file", to, python),
    )


def main() -> int:
    """Return 0 once everything is in the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet, or empty")
    parser.add_argument("--tag", help="the tag that is released")
    given = parser.parse_args()
    out: Path = given.out.resolve()
    if out.exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty")
    version = version_of(ROOT)
    against = refusals(ROOT, given.tag or f"v{version}")
    if given.tag and against:
        sys.exit("\n".join(["Not released:", *against]))
    files = files_of(ROOT)
    (out / "dist").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        wheel, sdist = built_twice(files, place, out / "dist")
        look_into(wheel, sdist, files)
        list_parts(used(wheel, place), out / SBOM)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    notes = section(changelog, version) or section(changelog, "Unreleased") or ""
    (out / "notes.md").write_text(notes + "\n", encoding="utf-8")
    summed = [*sorted((out / "dist").iterdir()), out / SBOM]
    lines = [f"{digest(path)}  {path.name}" for path in summed]
    (out / "SHA256SUMS").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))
    if not given.tag:
        print("A rehearsal.", *(["A release would be refused:", *against] if against else []), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
