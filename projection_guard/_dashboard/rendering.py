"""From a page to HTML: Jinja2 templates that escape everything, and the files that pages need."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256, sha384
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from .._http.access import Actor
from .._http.messages import Response
from . import wording
from .links import Links, segment
from .notes import Note
from .place import Shown

__all__ = ["HEADERS", "Frame", "asset", "draw", "version"]

_KINDS: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What goes with every page: nothing from elsewhere, no inline script or style, no frame around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around a page. `is_fragment`: only its inside is wanted, by a page that is open already."""

    name: str
    links: Links
    actor: Actor | None
    now: datetime
    note: Note | None = None
    is_fragment: bool = False


def _seen(value: object) -> object:
    return wording.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("projection_guard._dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = environment.filters
    filters.update(
        amount=wording.amount,
        as_given=escape,
        exact=wording.exact,
        of_retries=wording.of_retries,
        rate=wording.rate,
        segment=segment,
        shortened=wording.shortened,
        span=wording.span,
    )
    names: dict[str, Any] = environment.globals
    names.update(plural=wording.plural, ago=wording.ago)
    return environment


def draw(shown: Shown, frame: Frame) -> Response:
    """Draw a page."""
    template = _environment().get_template(shown.template)
    text = template.render(
        page=shown.page,
        shown=shown,
        frame=frame,
        links=frame.links,
        now=frame.now,
        version=version(),
        digest=_digest,
        layout="fragment.html" if frame.is_fragment else "layout.html",
    )
    return Response(
        status=shown.status,
        body=text.encode("utf-8", "replace"),
        media_type="text/html; charset=utf-8",
        headers=HEADERS,
    )


@cache
def _assets() -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for file in files("projection_guard._dashboard").joinpath("assets").iterdir():
        if any(file.name.endswith(ending) for ending in _KINDS):
            found[file.name] = file.read_bytes()
    return found


@cache
def _digest(name: str) -> str:
    """Return what a file has to be like for a browser to take it: an address may lead to another one's."""
    return f"sha384-{b64encode(sha384(_assets()[name]).digest()).decode()}"


@cache
def version() -> str:
    """Return what stands in the addresses of files: it changes with any of them, so that they can be kept for ever."""
    digest = sha256()
    for name, content in sorted(_assets().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def asset(path: str) -> Response | None:
    """Answer with a file, by its path below the dashboard's root; None where there is none of that name."""
    folder, _, rest = path.partition("/")
    given, _, name = rest.partition("/")
    content = _assets().get(name) if folder == "assets" else None
    if content is None:
        return None
    kind = next(kind for ending, kind in _KINDS.items() if name.endswith(ending))
    caching = _FOR_EVER if given == version() else "no-store"
    return Response(status=200, body=content, media_type=kind, headers={**HEADERS, "Cache-Control": caching})
