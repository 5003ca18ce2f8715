"""A document service in Django, in one file: its read model is a Django model, and heals by itself.

    pip install 'projection-guard[django]' waitress
    OPERATOR_KEY=change-me VIEWER_KEY=look-only python examples/django_app/app.py

    curl -X PUT localhost:8000/folders/board
    curl localhost:8000/documents --json '{"folder": "board", "title": "Minutes"}'      # applied
    curl localhost:8000/documents --json '{"folder": "plans", "title": "Budget"}'       # failed: no such folder yet
    curl -X PUT localhost:8000/folders/plans                                            # a second later it has healed
    curl localhost:8000/documents
    python examples/django_app/app.py projection_guard status

A folder that never comes is a failure for a person: http://localhost:8000/dashboard/ (any name, the key as password).
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import execute_from_command_line
from django.db import connection, models, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from sqlalchemy import make_url
from waitress import serve

OPERATOR, VIEWER = os.environ.get("OPERATOR_KEY"), os.environ.get("VIEWER_KEY")


def database(url: str) -> dict[str, Any]:
    """Say to Django where the database is: SQLite or PostgreSQL."""
    found = make_url(url)
    if found.get_backend_name() == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": found.database, "OPTIONS": {"timeout": 20}}
    place = {"HOST": found.host, "PORT": found.port, "USER": found.username, "PASSWORD": found.password}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": found.database, **place}


settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={"default": database(os.environ.get("DATABASE_URL", "sqlite:///documents.db"))},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["projection_guard.django"],
    PROJECTION_GUARD=f"{__name__}:guard",
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY") or uuid4().hex,
)
django.setup()

from projection_guard import Outcome, ProjectionGuard  # noqa: E402  (a project has its settings in a file of their own)
from projection_guard.django import engine, with_orm  # noqa: E402
from projection_guard.django.urls import Actor, admin_urls, dashboard_urls, health_urls  # noqa: E402

KEYS: dict[str, Actor] = {}
if OPERATOR:
    KEYS[OPERATOR] = Actor(name="operator", role="operator")
if VIEWER:  # where both keys are one, it is for looking only
    KEYS[VIEWER] = Actor(name="viewer", role="viewer")


def who(request: HttpRequest) -> Actor | None:
    """Say whose key a request carries: as a token, or as the password that a browser asks for. Others are nobody."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        try:
            given = base64.b64decode(given).decode().partition(":")[2]
        except ValueError:
            return None
    elif scheme != "Bearer":
        return None
    return next((actor for key, actor in KEYS.items() if hmac.compare_digest(given.encode(), key.encode())), None)


def visitor(request: HttpRequest) -> Actor | HttpResponse:
    """Say who looks at the dashboard; of a browser that does not say so a password is asked."""
    refusal = HttpResponse("Give your key as the password", status=401, headers={"WWW-Authenticate": "Basic"})
    return who(request) or refusal


class Folder(models.Model):
    """Where documents are filed; this service keeps it itself."""

    name = models.CharField(max_length=100, primary_key=True)

    class Meta:  # noqa: D106  (Django's own word)
        app_label = "projection_guard"


class Document(models.Model):
    """The read model."""

    id = models.CharField(max_length=36, primary_key=True)
    folder = models.ForeignKey(Folder, on_delete=models.PROTECT)
    title = models.TextField()
    revision = models.IntegerField(default=1)

    class Meta:  # noqa: D106  (Django's own word)
        app_label = "projection_guard"


@dataclass(frozen=True)
class Uploaded:
    """A document came in. This service has no event store of its own: its events are pushed."""

    event_id: str
    stream_id: str
    folder: str
    title: str


@dataclass(frozen=True)
class Renamed:
    """It has another title now."""

    event_id: str
    stream_id: str
    title: str


guard = ProjectionGuard(engine())
publisher = guard.publisher()


@guard.projection("DocumentProjection", handles=[Uploaded, Renamed])
@with_orm
def documents(event: Uploaded | Renamed) -> None:
    """Write the read model by the ORM, in the guard's transaction: exactly once, each document's events in order."""
    if isinstance(event, Renamed):
        Document.objects.filter(id=event.stream_id).update(title=event.title, revision=models.F("revision") + 1)
    else:  # Folder.DoesNotExist where there is none yet
        Document.objects.create(id=event.stream_id, title=event.title, folder=Folder.objects.get(name=event.folder))


def publish(event: Uploaded | Renamed) -> JsonResponse:
    """Publish what happened, once the view's own transaction has committed; say what became of it."""
    outcomes: list[Outcome] = []
    transaction.on_commit(lambda: outcomes.extend(publisher.publish(event)))
    became = outcomes[0].status.value if outcomes else "not yet"
    return JsonResponse({"id": event.stream_id, "read_model": became}, status=202)


@csrf_exempt
def make_folder(_: HttpRequest, name: str) -> HttpResponse:
    """Make a folder. The read model is not told: it looks for folders when it files a document."""
    Folder.objects.get_or_create(name=name)
    return HttpResponse(status=201)


@csrf_exempt
def upload_or_list(request: HttpRequest) -> JsonResponse:
    """Take a document in, or read the read model."""
    if request.method == "GET":
        return JsonResponse(list(Document.objects.order_by("title").values()), safe=False)
    body = json.loads(request.body)
    return publish(Uploaded(str(uuid4()), str(uuid4()), body["folder"], body["title"]))


@csrf_exempt
def rename(request: HttpRequest, document: str) -> JsonResponse:
    """Give a document another title."""
    return publish(Renamed(str(uuid4()), document, json.loads(request.body)["title"]))


@cache
def tables() -> None:
    """Make the tables; a project has migrations for its own."""
    guard.migrate()
    there = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in (Folder, Document):
            if model._meta.db_table not in there:
                editor.create_model(model)


urlpatterns = [
    path("folders/<name>", make_folder),
    path("documents", upload_or_list),
    path("documents/<document>", rename),
    path(
        "api/v1/",
        include(
            [*health_urls(guard, authorize=who), *admin_urls(guard, authorize=who, payloads_for="operator")],
        ),
    ),
    *dashboard_urls(guard, authorize=visitor, payloads_for="operator", name="Documents"),
]


def main() -> None:
    """Serve, and let a worker retry and drain as long as the application runs; or run a command."""
    tables()
    if sys.argv[1:]:
        execute_from_command_line(sys.argv)
        return
    try:
        with guard.worker():
            serve(WSGIHandler(), host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
    finally:
        guard.close()
        engine().dispose()


if __name__ == "__main__":
    main()
