"""Django in this process: its settings are a process's own, so that all tests have these; URLs are each server's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["application", "django", "set_up"]

django = pytest.importorskip("django", reason="Django is not installed: pip install 'projection-guard[django]'")


def set_up() -> None:
    """Configure Django, once."""
    from django.conf import settings

    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["projection_guard.django", "tests.frameworks.shelf"],
        MIDDLEWARE=["tests.django_project.Urls"],
        ROOT_URLCONF="tests.django_project",
        SECRET_KEY="of a test",
        USE_TZ=True,
    )
    django.setup()


urlpatterns: list[Any] = []
_KEY = "tests.urls"


class Urls:
    """A middleware: the URLs are those of the server that a request came to."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response

    def __call__(self, request: Any) -> Any:
        request.urlconf = request.environ[_KEY]
        return self._get_response(request)


def application(patterns: Iterable[Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Return a WSGI application with these URLs."""
    from django.core.handlers.wsgi import WSGIHandler

    handler, urls = WSGIHandler(), tuple(patterns)
    return lambda environ, start_response: handler({**environ, _KEY: urls}, start_response)
