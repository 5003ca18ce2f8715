"""What the site is made of, put together in one folder: the pages of docs/, and what else of the repository they show.

Pages link to each other and to files as they stand in the repository (`../CONTRIBUTING.md`, `../deploy/...`), so that
they are right wherever they are read. A generator knows its own folder only. So pages from elsewhere get a place of
their own beside those of docs/, a file that is linked becomes a page that shows it, and the links are rewritten: the
site needs nobody's server. A link called by its file's name (`[worker.md](worker.md)`) is called by the page's title.
"""

from __future__ import annotations

import os
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Final

from .names import ROOT
from .pages import links

__all__ = ["STAGE", "place_of", "stage", "staged"]

STAGE: Final = ROOT / "build" / "docs"
PLACES: Final = {"examples/README.md": "examples/index.md"}
_LANGUAGES: Final = {
    ".yml": "yaml",
    ".yaml": "yaml",
    ".service": "ini",
    ".py": "python",
    ".json": "json",
    ".toml": "toml",
}
_PICTURES: Final = {".png", ".svg", ".gif", ".jpg"}


def place_of(path: Path) -> str:
    """Return where in the site's folder a file of the repository stands, whether page, picture or something to show."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"files/{name}/index.md"
    if name in PLACES:
        return PLACES[name]
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if path.suffix == ".md" and path.parent == ROOT:
        return f"project/{name.lower()}"
    if path.name == "README.md":
        return f"{path.parent.relative_to(ROOT).as_posix()}.md"  # examples/fastapi/README.md is examples/fastapi.md
    return f"files/{name}" if path.suffix in _PICTURES else f"files/{name}.md"


def staged(page: Path) -> tuple[str, list[Path]]:
    """Return a page's text as the site shows it, and the files outside docs/ to which it links."""
    text = page.read_text(encoding="utf-8")
    here = Path(place_of(page)).parent.as_posix()
    linked: list[Path] = []
    rewritten: dict[str, str] = {}
    for link in links(text):
        if link.is_external or not link.target:
            continue
        file = Path(os.path.normpath(page.parent / link.target))
        if (file / "README.md").exists():
            file /= "README.md"
        if not file.exists():
            continue  # tests/project/test_site_links.py tells
        rewritten[link.target] = os.path.relpath(place_of(file), here)
        if not file.is_relative_to(ROOT / "docs"):
            linked.append(file)
        if file.suffix == ".md":
            text = re.sub(
                rf"\[`?{re.escape(file.name)}`?\](?=\({re.escape(link.target)}[)#])", f"[{_title(file)}]", text
            )
    for target, place in rewritten.items():
        if target != place:
            text = re.sub(rf"\]\({re.escape(target)}(?=[)#\s])", f"]({place}", text)
    return text, linked


@cache
def _title(page: Path) -> str:
    """Return a page's title: where a link is called by its file's name, that says more to who reads the site."""
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else page.name


def stage(folder: Path = STAGE) -> None:
    """Put the site's folder together anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in sorted((ROOT / "docs").rglob("*")):
        if file.is_file() and file.suffix != ".md":
            _copy(file, folder)
    waiting = [
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "examples").rglob("README.md")),
    ]
    seen = set(waiting)
    while waiting:
        file = waiting.pop()
        text, linked = staged(file) if file.suffix == ".md" else (_shown(file), [])
        if file.suffix in _PICTURES:
            _copy(file, folder)
        else:
            target = folder / place_of(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        new = [other for other in linked if other not in seen]
        seen |= set(new)
        waiting += new


def _copy(file: Path, folder: Path) -> None:
    target = folder / place_of(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _shown(file: Path) -> str:
    """Return a page that shows a file as it stands in the repository, or what a folder holds."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {file.relative_to(ROOT).as_posix()}\n\n"
    if file.is_dir():
        return head + "".join(f"- `{each.name}`\n" for each in sorted(file.iterdir()) if not each.name.startswith("__"))
    if file.suffix in _PICTURES:
        return ""
    language = _LANGUAGES.get(file.suffix, "docker" if file.name == "Dockerfile" else "text")
    return f"{head}```{language}\n{file.read_text(encoding='utf-8').rstrip()}\n```\n"
