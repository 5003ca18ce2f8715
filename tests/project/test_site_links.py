"""Links between pages lead to what is there, anchors included: in docs, at the root, in the examples' READMEs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site.names import ROOT
from tests.site.pages import anchors, links, pages


def broken(page: Path) -> list[str]:
    """Return what a page links to and is not there."""
    found: list[str] = []
    for link in links(page.read_text(encoding="utf-8")):
        if link.is_external:
            continue
        where = f"{page.name}:{link.line}"
        target = page.parent / link.target if link.target else page
        if not target.exists():
            found.append(f"{where}: {link.target} is not there")
        elif target.suffix == ".md" and link.anchor not in {"", *anchors(target.read_text(encoding="utf-8"))}:
            found.append(f"{where}: {link.target or page.name} has no heading for #{link.anchor}")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    """Addresses of other sites are asked by `make links` only."""
    assert broken(page) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    """A file, an anchor of another page, one of its own; code is not looked at, nor is what is outside."""
    (tmp_path / "b.md").write_text("# The `worker`, twice\n\n## Same\n\n## Same\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# A\n\n[x](b.md#the-worker-twice) [x](b.md#same-1) [x](#a) [x](https://example.org/#no) `[x](c.md)`\n\n"
        "```text\n[x](c.md)\n```\n\n[![picture](no.png)](b.md#same-2) and [`x`](c.md) and [x](#b)\n"
        "| [the `x`](d.md) | `code` |\n"
    )
    assert broken(page) == [
        "a.md:9: no.png is not there",
        "a.md:9: b.md has no heading for #same-2",
        "a.md:9: c.md is not there",
        "a.md:9: a.md has no heading for #b",
        "a.md:10: d.md is not there",
    ]
