"""The picture of the parts is true: its modules are there, its layers are import-linter's, its arrows are imports."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.project.test_readme import ROOT

DRAWING: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "architecture.py"))
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(slots=True, kw_only=True)
class Drawn:
    """What stands in the picture, as it is read from it."""

    height_of: dict[str, float] = field(default_factory=dict)
    """How far down each module's band begins."""
    band_of: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    arrows: list[tuple[str, str, float, float]] = field(default_factory=list)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """The picture, read by itself: nothing of what made it is asked."""
    found = Drawn()
    root = ET.parse(PICTURE).getroot()
    for band in root.iterfind(f"{SVG}g[@data-band]"):
        frame = band.find(f"{SVG}rect")
        assert frame is not None
        for module in band.iterfind(f"{SVG}g[@data-module]"):
            name = module.attrib["data-module"]
            assert module.findtext(f"{SVG}text") == name
            found.order.append(name)
            found.band_of[name] = band.attrib["data-band"]
            found.height_of[name] = float(frame.attrib["y"])
    for arrow in root.iterfind(f"{SVG}path[@data-from]"):
        start, end = map(float, re.findall(r"[\d.]+", arrow.attrib["d"])[1:])
        found.arrows.append((arrow.attrib["data-from"], arrow.attrib["data-to"], start, end))
    return found


def test_every_module_is_drawn_once_and_none_that_there_is_not(drawn: Drawn) -> None:
    """A module that is added is missing in the picture, one that is removed is too much."""
    package = ROOT / "projection_guard"
    there = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(drawn.order) == sorted(there - {"__init__"})


def test_the_order_is_that_of_import_linters_layers(drawn: Drawn) -> None:
    """What stands higher there stands higher here, or in the same band."""
    assert drawn.order == [name for layer in DRAWING["layers"]() for name in layer]


def test_imports_point_down_in_the_picture(drawn: Drawn) -> None:
    """Whoever imports from another band stands above it: every import of every file, also those inside of functions."""
    imports = DRAWING["imports"]()
    assert len(imports) > 200
    across = [(one, other) for one, other in imports if drawn.band_of[one] != drawn.band_of[other]]
    assert [pair for pair in across if drawn.height_of[pair[0]] >= drawn.height_of[pair[1]]] == []


def test_every_arrow_points_down_and_is_an_import(drawn: Drawn) -> None:
    """And whatever one band imports of another can be walked to along the arrows."""
    across = {(drawn.band_of[one], drawn.band_of[other]) for one, other in DRAWING["imports"]()}
    across = {pair for pair in across if pair[0] != pair[1]}
    assert [arrow for arrow in drawn.arrows if arrow[2] >= arrow[3]] == []
    led = {(one, other) for one, other, _, _ in drawn.arrows}
    assert led
    assert led <= across
    while further := {(a, d) for a, b in led for c, d in led if b == c} - led:
        led |= further
    assert across <= led


def test_the_picture_and_the_list_are_as_the_script_makes_them() -> None:
    """`python .ci/architecture.py` was run after the last change of a module, a layer or a docstring."""
    assert PICTURE.read_text(encoding="utf-8") == DRAWING["picture"]()
    assert (ROOT / "docs" / "modules.md").read_text(encoding="utf-8") == DRAWING["listed"]()


def test_what_the_page_names_exists() -> None:
    """The flow names modules as `_core/delivering.py`, and what is in them as `deliver`."""
    named = re.findall(r"(?<![\w/.])(?!tests/)(_?\w+/\w+|_\w+)\.py(?::(\w+))?", PAGE)
    assert len(named) > 15
    for module, function in named:
        path = ROOT / "projection_guard" / f"{module}.py"
        assert path.exists(), module
        if function:
            assert re.search(
                rf"^ *(async )?(def|class) {function}\b", path.read_text(encoding="utf-8"), re.MULTILINE
            ), function


def test_the_page_has_a_paragraph_for_each_band(drawn: Drawn) -> None:
    """In the order of the picture."""
    bands = list(dict.fromkeys(drawn.band_of[name] for name in drawn.order))
    places = [PAGE.lower().find(f"**{band}**") for band in bands]
    assert -1 not in places, dict(zip(bands, places, strict=True))
    assert all(one < other for one, other in pairwise(places))


def test_every_file_says_what_it_owns(tmp_path: Path) -> None:
    """A file without a docstring ends the script; the first sentence ends where the next one begins."""
    silent = tmp_path / "silent.py"
    silent.write_text("x = 1\n", encoding="utf-8")
    said = tmp_path / "said.py"
    said.write_text('"""Reads `_io/__init__.py` and e.g. this. And more."""\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"silent\.py does not say"):
        DRAWING["owned"](silent)
    assert DRAWING["owned"](said) == "Reads `_io/__init__.py` and e.g. this."
