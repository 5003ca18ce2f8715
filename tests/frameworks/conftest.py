"""A Django project on a database of the test's own, with the guard's tables and those of `shelf`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import ProjectionGuard, RetryPolicy
from tests import django_project
from tests.bed import Happened

AT_ONCE = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(6))


class Project:
    """Django on a database, and a guard on Django's engine. `guard()` makes one more, as another process would."""

    def __init__(self, url: str) -> None:
        django_project.set_up()
        self.url = make_url(url)
        self._guards: list[ProjectionGuard] = []
        use(django_settings(url))
        from projection_guard.django import engine

        self.engine = engine()
        make_tables()

    @property
    def vendor(self) -> str:
        """Which database it is."""
        return self.url.get_backend_name()

    def guard(self, **options: Any) -> ProjectionGuard:
        """Make a guard."""
        options = {"worker": "external", "retry": AT_ONCE, **options}
        made = ProjectionGuard(self.engine, **options)
        self._guards.append(made)
        return made

    def shelved(self, guard: ProjectionGuard, body: Any, name: str = "P", **options: Any) -> Any:
        """Register a handler that writes by the ORM."""
        from projection_guard.django import with_orm

        return guard.projection(name, handles=[Happened], **options)(with_orm(body))

    def close(self) -> None:
        """Close everything."""
        from django.db import connections

        for guard in self._guards:
            guard.close()
        self.engine.dispose()
        connections.close_all()


def django_settings(url: str) -> dict[str, Any]:
    """Return a database as Django's settings name it."""
    found = make_url(url)
    if found.get_backend_name() == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": found.database, "OPTIONS": {"timeout": 30}}
    query = dict(found.query)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": found.database,
        "USER": found.username or "",
        "PASSWORD": found.password or "",
        "HOST": found.host or query.get("host", ""),
        "PORT": str(found.port or query.get("port", "")),
    }


def use(settings: dict[str, Any]) -> None:
    """Let Django's default database be this one."""
    from django.db import connections

    from projection_guard.django._connecting import _engine

    connections.close_all()
    connections.settings["default"] = connections.configure_settings({"default": settings})["default"]
    del connections["default"]
    _engine.cache_clear()


def make_tables() -> None:
    """Make the tables of `shelf`."""
    from django.db import connection

    from tests.frameworks.shelf.models import Book, Note

    with connection.schema_editor() as editor:
        editor.create_model(Book)
        editor.create_model(Note)


@pytest.fixture
def project(database_url: str) -> Iterator[Project]:
    """The project, once on SQLite, once on PostgreSQL."""
    made = Project(database_url)
    yield made
    made.close()


@pytest.fixture
def postgres_project(postgres_url: str) -> Iterator[Project]:
    """The project on PostgreSQL."""
    made = Project(postgres_url)
    yield made
    made.close()
