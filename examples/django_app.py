"""A document service in Django, in one file: its read model is a Django model, and heals by itself.

    pip install 'projection-guard[django]' waitress
    OPERATOR_KEY=change-me VIEWER_KEY=look-only python examples/django_app.py

    curl -X POST localhost:8000/documents -H 'Content-Type: application/json' -d '{"title": "Minutes"}'
    curl localhost:8000/documents
    curl localhost:8000/api/v1/health/projections
    python examples/django_app.py projection_guard status

A title with "poison" in it fails in the projection: open http://localhost:8000/dashboard/ (any name, the key as the
password), look at it, and resolve it.
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
from waitress import serve

OPERATOR, VIEWER = os.environ.get("OPERATOR_KEY"), os.environ.get("VIEWER_KEY")
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "documents.db", "OPTIONS": {"timeout": 20}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["projection_guard.django"],
    PROJECTION_GUARD=f"{__name__}:guard",
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY") or uuid4().hex,
)
django.setup()

from projection_guard import ProjectionGuard  # noqa: E402  (a project has its settings in a file of their own)
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


class Upload(models.Model):
    """What this service keeps itself, and publishes an event of."""

    id = models.CharField(max_length=36, primary_key=True)
    title = models.TextField()

    class Meta:  # noqa: D106  (Django's own word)
        app_label = "projection_guard"


class Document(models.Model):
    """The read model."""

    id = models.CharField(max_length=36, primary_key=True)
    title = models.TextField()

    class Meta:  # noqa: D106  (Django's own word)
        app_label = "projection_guard"


@dataclass(frozen=True)
class DocumentUploaded:
    """What happened. This service has no event store of its own: its events are pushed."""

    event_id: str
    stream_id: str
    title: str


guard = ProjectionGuard(engine())
publisher = guard.publisher()


@guard.projection("DocumentProjection", handles=[DocumentUploaded])
@with_orm
def documents(event: DocumentUploaded) -> None:
    """Write the read model by the ORM, in the guard's transaction: exactly once."""
    Document.objects.create(id=event.stream_id, title=event.title)
    if "poison" in event.title:
        raise ValueError("this title cannot be filed")


@csrf_exempt
def upload_or_list(request: HttpRequest) -> JsonResponse:
    """File a document, and publish that once it is committed; or read the read model."""
    if request.method == "GET":
        return JsonResponse(list(Document.objects.order_by("title").values("id", "title")), safe=False)
    outcomes: list[Any] = []
    with transaction.atomic():
        filed = Upload.objects.create(id=str(uuid4()), title=json.loads(request.body)["title"])
        event = DocumentUploaded(event_id=str(uuid4()), stream_id=filed.id, title=filed.title)
        transaction.on_commit(lambda: outcomes.extend(publisher.publish(event)))
    return JsonResponse({"id": filed.id, "read_model": outcomes[0].status.value}, status=202)


@cache
def tables() -> None:
    """Make the tables; a project has migrations for its own."""
    guard.migrate()
    there = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in (Upload, Document):
            if model._meta.db_table not in there:
                editor.create_model(model)


urlpatterns = [
    path("documents", upload_or_list),
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
