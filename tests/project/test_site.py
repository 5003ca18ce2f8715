"""The documentation site: what stands in its navigation, and what a browser would load from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.site import elsewhere, staging
from tests.site.names import ROOT
from tests.site.pages import links

CONFIGURATION = ROOT / "mkdocs.yml"


def entries(nav: Any) -> Iterator[str]:
    """Return the pages that a navigation names, in order."""
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(value, str):
            yield value
        else:
            yield from entries(value)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's folder, put together."""
    folder = tmp_path_factory.mktemp("stage")
    staging.stage(folder)
    return folder


def test_every_page_stands_in_the_navigation_once_and_every_entry_has_its_page(stage: Path) -> None:
    """A page that nobody finds, or an entry that leads nowhere: put the page into `nav` in mkdocs.yml."""
    named = list(entries(yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))["nav"]))
    pages = {path.relative_to(stage).as_posix() for path in stage.rglob("*.md")}
    wanted = {page for page in pages if not page.startswith("files/")}
    assert sorted(wanted - set(named)) == [], "pages without an entry"
    assert sorted(set(named) - wanted) == [], "entries without a page"
    assert len(named) == len(set(named))


def test_every_link_of_the_site_leads_to_something_that_is_there(stage: Path) -> None:
    """Also one that leads out of docs/, which is given a place beside the pages."""
    missing = [
        f"{page.relative_to(stage)}: {link.target}"
        for page in stage.rglob("*.md")
        for link in links(page.read_text(encoding="utf-8"))
        if link.target and not link.is_external and not (page.parent / link.target).exists()
    ]
    assert missing == []


def test_a_link_out_of_the_pages_leads_to_the_place_that_the_site_has_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page, a file and a folder of the repository; what leads elsewhere or to an anchor stays."""
    monkeypatch.setattr(staging, "ROOT", tmp_path)
    for name in ("docs/adr", "deploy/docker", "examples/shop"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "deploy/docker/Dockerfile").write_text("FROM python\n")
    (tmp_path / "examples/shop/README.md").write_text("# Shop\n\n[Guards](../../docs/guards.md)\n")
    for name in ("README.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "docs/guards.md").write_text("# Guards\n\n[all](../README.md), [again](guards.md#guards)\n")
    (tmp_path / "docs/adr/one.md").write_text(
        "# One\n\n[a](../../CONTRIBUTING.md#gates) [b](../../deploy/docker/Dockerfile) [c](../../examples/shop)"
        " [d](https://example.org) [e](#one) [guards.md](../guards.md#all)\n\n```text\n[g](../../nowhere)\n```\n"
    )
    staging.stage(tmp_path / "stage")
    written = {
        path.relative_to(tmp_path / "stage").as_posix(): path.read_text() for path in (tmp_path / "stage").rglob("*.md")
    }
    assert "[a](../project/contributing.md#gates) [b](../files/deploy/docker/Dockerfile.md)" in written["adr/one.md"]
    assert (
        "[c](../examples/shop.md) [d](https://example.org) [e](#one) [Guards](../guards.md#all)"
        in written["adr/one.md"]
    )
    assert "[g](../../nowhere)" in written["adr/one.md"], "code is left alone"
    assert "```docker\nFROM python\n```" in written["files/deploy/docker/Dockerfile.md"]
    assert "[Guards](../guards.md)" in written["examples/shop.md"]
    assert "[all](project/readme.md), [again](guards.md#guards)" in written["guards.md"]


def test_what_a_browser_would_load_from_elsewhere_is_found(tmp_path: Path) -> None:
    """Scripts, styles, pictures and fonts; a link that somebody has to click is none of them."""
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="https://fonts.example/css"><script src="//cdn.example/x.js"></script>'
        '<a href="https://example.org"><img src="images/a.png"></a><link rel="canonical" href="https://example.org">'
        '<pre class="mermaid">graph</pre>'
    )
    (tmp_path / "a.css").write_text(
        "@font-face { src: url('https://fonts.example/a.woff2') } a { background: url(b.png) }"
    )
    assert [found.partition(": ")[2][:30] for found in elsewhere.loads(tmp_path)] == [
        "<link> https://fonts.example/c",
        "<script> //cdn.example/x.js",
        "a mermaid diagram: the theme's",
        "https://fonts.example/a.woff2",
    ]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_address_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """`make links` asks each; here a server of the test's own, which has one page, and then one that is gone."""
    (tmp_path / "there.html").write_text("there")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            assert elsewhere.answer(f"{url}/there.html") is None
            assert (elsewhere.answer(f"{url}/gone.html") or "").startswith("404")
        finally:
            server.shutdown()
            serving.join()
    assert "refused" in (elsewhere.answer(f"{url}/there.html") or "")
