"""Draw the parts of the package from its imports, and list its modules: `python .ci/architecture.py` writes both.

    docs/images/architecture.svg    bands of modules; an arrow is an import that no longer way explains
    docs/modules.md                 every module, and what it owns: the first sentence of its docstring

The layers are those of `[tool.importlinter]`. `BANDS` only says which of them are drawn together.
`tests/project/test_architecture.py` compares both files with what this makes, and the picture with the imports.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "projection_guard"
PICTURE: Final = ROOT / "docs" / "images" / "architecture.svg"
LISTED: Final = ROOT / "docs" / "modules.md"

WIDTH, MARGIN, GAP, LINE, CHARACTER = 1000, 14, 26, 26, 7.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Layers that are drawn as one box. `first` is in its topmost layer; those up to the next band belong to it.

    `beside`: it stands at the right of the band before it; neither imports the other.
    """

    title: str
    first: str
    beside: bool = False


BANDS: Final = (
    Band(title="programs, and what takes events in", first="__main__"),
    Band(title="adapters: frameworks, metrics, alerts, tests", first="fastapi"),
    Band(title="event libraries and logs", first="eventsourcing"),
    Band(title="routes, pages, gauges: in no framework's words", first="_dashboard", beside=True),
    Band(title="the two guards", first="_guard"),
    Band(title="who brings events", first="_publisher"),
    Band(title="what both guards do, once", first="_jobs"),
    Band(title="the flow of an event", first="_core"),
    Band(title="how the flow reaches the world", first="_io"),
    Band(title="tables, dialects, who is told", first="_tables"),
    Band(title="events and their sources", first="_encryption", beside=True),
    Band(title="values", first="_alert_words"),
    Band(title="decisions and errors", first="_policy"),
)


def layers() -> list[list[str]]:
    """Return the layers of pyproject.toml, the topmost first."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (found,) = (each["layers"] for each in contracts if each["type"] == "layers")
    return [re.findall(r"\w+", layer) for layer in found]


def modules() -> list[str]:
    """Return the modules and packages right inside of the package."""
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return sorted(found - {"__init__"})


def banded() -> list[tuple[Band, list[list[str]]]]:
    """Return every band with its layers. Raises `SystemExit` where a band begins in the middle of a layer."""
    taken: list[tuple[Band, list[list[str]]]] = []
    begins = {band.first: band for band in BANDS}
    for layer in layers():
        taken += [(begins.pop(name), []) for name in layer if name in begins]
        if not taken:
            sys.exit(f"BANDS: no band begins with the topmost layer, {layer}")
        taken[-1][1].append(layer)
    if begins:
        sys.exit(f"BANDS: no layer has {sorted(begins)}")
    return taken


@cache
def imports() -> frozenset[tuple[str, str]]:
    """Return who imports whom, by the names right inside of the package; wherever in a file the import stands."""
    found: set[tuple[str, str]] = set()
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        name = inside.parts[0].removesuffix(".py")
        if name != "__init__":
            found |= {(name, other) for other in _imported(path, inside) if other != name}
    return frozenset(found)


def _imported(path: Path, inside: Path) -> Iterator[str]:
    """Yield what a file imports of the package: the first part of each name."""
    package = ["projection_guard", *inside.parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base] if "." in base else [f"{base}.{each.name}" for each in node.names]
        else:
            continue
        for parts in (name.split(".") for name in names):
            if parts[0] == "projection_guard" and parts[1:] and parts[1] in KNOWN:
                yield parts[1]


KNOWN: Final = frozenset(modules())


def arrows() -> list[tuple[str, str]]:
    """Return which bands import which, by their titles, without what follows from the others."""
    place = {name: band.title for band, inside in banded() for layer in inside for name in layer}
    if homeless := sorted(KNOWN - place.keys()):
        sys.exit(f"No layer of [tool.importlinter] in pyproject.toml has {homeless}")
    direct = {(place[a], place[b]) for a, b in imports() if place[a] != place[b]}
    led = _closed(direct)
    if loops := sorted({one for one, other in led if one == other}):
        sys.exit(f"These bands import each other, so one of them upwards: {loops}")
    return sorted((a, b) for a, b in direct if not any((c, b) in led for x, c in direct if x == a and c != b))


def _closed(direct: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return what can be walked to, in any number of steps."""
    led = set(direct)
    while further := {(a, d) for a, b in led for c, d in direct if b == c} - led:
        led |= further
    return led


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A band as it is drawn."""

    band: Band
    lines: tuple[tuple[str, ...], ...]
    x: float
    y: float
    width: float

    @property
    def height(self) -> float:
        """Its title, then its lines of modules."""
        return LINE * (len(self.lines) + 1) + MARGIN

    @property
    def middle(self) -> float:
        """Where arrows leave and arrive."""
        return self.x + self.width / 2


def boxes() -> list[Box]:
    """Lay the bands out: one in a row, or two."""
    rows: list[list[tuple[Band, list[str]]]] = []
    for band, inside in banded():
        entry = (band, [name for layer in inside for name in layer])
        if band.beside:
            rows[-1].append(entry)
        else:
            rows.append([entry])
    laid: list[Box] = []
    y: float = MARGIN
    for row in rows:
        width = (WIDTH - MARGIN * (len(row) + 1)) / len(row)
        made = [
            Box(band=band, lines=_wrapped(names, width), x=MARGIN + number * (width + MARGIN), y=y, width=width)
            for number, (band, names) in enumerate(row)
        ]
        laid += made
        y += max(box.height for box in made) + GAP
    return laid


def _wrapped(names: list[str], width: float) -> tuple[tuple[str, ...], ...]:
    lines: list[list[str]] = [[]]
    for name in names:
        if lines[-1] and sum(_wide(each) for each in [*lines[-1], name]) > width - 2 * MARGIN:
            lines.append([])
        lines[-1].append(name)
    return tuple(map(tuple, lines))


def _wide(name: str) -> float:
    return len(name) * CHARACTER + 22


STYLE: Final = """
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328 }
  .title { font: 600 13px system-ui, sans-serif; fill: #57606a }
  .page { fill: #ffffff } .band { fill: #f6f8fa; stroke: #d0d7de } .module { fill: #ffffff; stroke: #afb8c1 }
  .arrow { stroke: #57606a; stroke-width: 1.5; fill: none; marker-end: url(#head) } .head { fill: #57606a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .title { fill: #9198a1 } .page { fill: #0d1117 } .band { fill: #151b23; stroke: #3d444d }
    .module { fill: #0d1117; stroke: #656c76 } .arrow { stroke: #9198a1 } .head { fill: #9198a1 }
  }
"""


def picture() -> str:
    """Return the picture. Every box says in `data-` what it is, every arrow where it leads: a test reads them."""
    laid = boxes()
    height = max(box.y + box.height for box in laid) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{LABEL}">',
        "<!-- made by .ci/architecture.py -->",
        f"<style>{STYLE}</style>",
        HEAD_OF_ARROW,
        f'<rect class="page" width="{WIDTH}" height="{height:g}"/>',
    ]
    for box in laid:
        parts += _drawn(box)
    by_title = {box.band.title: box for box in laid}
    parts += [_arrow(by_title[one], by_title[other]) for one, other in arrows()]
    return "\n".join([*parts, "</svg>", ""])


def _drawn(box: Box) -> Iterator[str]:
    title = escape(box.band.title)
    yield (
        f'<g data-band="{title}"><rect class="band" rx="6" x="{box.x:g}" y="{box.y:g}" '
        f'width="{box.width:g}" height="{box.height:g}"/>'
        f'<text class="title" x="{box.x + MARGIN:g}" y="{box.y + 20:g}">{title}</text>'
    )
    for number, line in enumerate(box.lines, start=1):
        x, y = box.x + MARGIN, box.y + number * LINE + 4
        for name in line:
            yield (
                f'<g data-module="{name}"><rect class="module" rx="4" x="{x:.1f}" y="{y:g}" '
                f'width="{_wide(name) - 8:.1f}" height="20"/><text x="{x + 7:.1f}" y="{y + 14:g}">{name}</text></g>'
            )
            x += _wide(name)
    yield "</g>"


def _arrow(one: Box, other: Box) -> str:
    x = one.middle if one.width < other.width else other.middle
    y, end = one.y + one.height, other.y - 2
    titles = f'data-from="{escape(one.band.title)}" data-to="{escape(other.band.title)}"'
    return f'<path class="arrow" {titles} data-y="{y:g} {end:g}" d="M{x:g} {y:g} V{end:g}"/>'


LABEL: Final = "The modules of projection_guard in layers; imports point down"
HEAD_OF_ARROW: Final = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="head" d="M0 0 8 4 0 8z"/></marker>'
)
HEAD: Final = """\
# Modules

<!-- made by .ci/architecture.py: change the docstrings, then run it -->

What each module owns: the first sentence of its docstring. In the order of [the picture](architecture.md); inside of a
package by name. A leading underscore means that it may change tomorrow ([versioning.md](versioning.md)).
"""


def owned(path: Path) -> str:
    """Return the first sentence of a module's docstring. Raises `SystemExit` where there is none."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not said:
        sys.exit(f"{path} does not say what it owns: it has no docstring")
    first = " ".join(said.split("\n\n")[0].split())
    end = re.search(r"\.(?= [A-Z`])", first)
    return (first[: end.end()] if end else first).replace("|", "\\|")


def listed() -> str:
    """Return the page that lists every module."""
    parts = [HEAD, "| module | owns |", "|---|---|", f"| `projection_guard` | {owned(PACKAGE / '__init__.py')} |"]
    for band, inside in banded():
        parts += ["", f"## {band.title[0].upper()}{band.title[1:]}", "", "| module | owns |", "|---|---|"]
        for name in (name for layer in inside for name in layer):
            parts += [f"| `{_dotted(path)}` | {owned(path)} |" for path in _files(name)]
    return "\n".join([*parts, ""])


def _files(name: str) -> list[Path]:
    """Return a module's file, or a package's with its `__init__` before the others."""
    alone = PACKAGE / f"{name}.py"
    if alone.exists():
        return [alone]
    found = (PACKAGE / name).rglob("*.py")
    return sorted(found, key=lambda path: (path.parent.parts, path.name != "__init__.py", path.name))


def _dotted(path: Path) -> str:
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(inside[:-1] if inside[-1] == "__init__" else inside)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    LISTED.write_text(listed(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}, {LISTED.relative_to(ROOT)}: {len(KNOWN)} modules and packages")
