"""The pages of docs/reference: what they have to say, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from . import api, routes, tables
from .names import ROOT

__all__ = ["FOLDER", "texts", "write"]

FOLDER: Final = ROOT / "docs" / "reference"
INDEX: Final = """\
# Reference

*Written by `make reference`, as all pages in this folder are, and compared by a test.*

**Python.** Each public name stands on one of these pages, with its signature and its docstring:

{api}

**Everything else.**

- [HTTP routes](routes.md): what each takes and answers, from the OpenAPI document
- [Tables](tables.md): tables, columns and indexes, from the SQLAlchemy models
- [Command line](../cli.md): commands, options, exit codes, fields of `--json`
- [Metrics](../metrics.md): names, labels and meanings, for Prometheus and OpenTelemetry
- [Errors](../errors.md): every error, its cause and its cure
"""


def texts() -> dict[str, str]:
    """Return every page's text by its file's name."""
    listed = "\n".join(f"- [{page.title}]({page.file}.md)" for page in api.PAGES)
    return {
        "index.md": INDEX.format(api=listed),
        **api.pages(),
        "routes.md": routes.page(),
        "tables.md": tables.page(),
    }


def write(folder: Path = FOLDER) -> None:
    """Write the pages anew; what is no page of the reference any more goes."""
    folder.mkdir(exist_ok=True)
    wanted = texts()
    for stale in {path.name for path in folder.glob("*.md")} - wanted.keys():
        (folder / stale).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
