"""A document service in Flask whose read model heals by itself, with health and admin routes behind API keys.

    pip install 'projection-guard[flask]' waitress
    OPERATOR_KEY=change-me VIEWER_KEY=look-only python examples/flask_app.py

    curl -X POST localhost:8000/documents -H 'Content-Type: application/json' -d '{"title": "Minutes"}'
    curl localhost:8000/documents
    curl localhost:8000/api/v1/health/projections
    curl -H 'Authorization: Bearer change-me' localhost:8000/api/v1/admin/projections/status

A title with "poison" in it fails in the projection: open http://localhost:8000/dashboard/ (any name, the key as the
password), look at it, and resolve it.
"""

from __future__ import annotations

import base64
import hmac
import os
from dataclasses import dataclass
from uuid import uuid4

from flask import Flask, Request, abort, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, create_engine, text
from waitress import serve
from werkzeug.datastructures import WWWAuthenticate

from projection_guard import ProjectionGuard
from projection_guard.flask import Actor, admin_blueprint, dashboard_blueprint, health_blueprint

DATABASE = os.environ.get("DATABASE_URL", "sqlite:///documents.db")
OPERATOR, VIEWER = os.environ.get("OPERATOR_KEY"), os.environ.get("VIEWER_KEY")
KEYS: dict[str, Actor] = {}
if OPERATOR:
    KEYS[OPERATOR] = Actor(name="operator", role="operator")
if VIEWER:  # where both keys are one, it is for looking only
    KEYS[VIEWER] = Actor(name="viewer", role="viewer")


def who(request: Request) -> Actor | None:
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


def visitor(request: Request) -> Actor:
    """Say who looks at the dashboard; of a browser that does not say so a password is asked."""
    actor = who(request)
    if actor is None:
        abort(401, "Give your key as the password", www_authenticate=WWWAuthenticate("basic", {"realm": "Documents"}))
    return actor


@dataclass(frozen=True)
class DocumentUploaded:
    """What happened. This service has no event store of its own: its events are pushed."""

    event_id: str
    stream_id: str
    title: str


engine = create_engine(DATABASE)
guard = ProjectionGuard(engine)
publisher = guard.publisher()


@guard.projection("DocumentProjection", handles=[DocumentUploaded])
def documents(event: DocumentUploaded, connection: Connection) -> None:
    """Write the read model, in the guard's transaction: exactly once."""
    if "poison" in event.title:
        raise ValueError("this title cannot be filed")
    connection.execute(
        text("INSERT INTO documents (id, title) VALUES (:id, :title)"), {"id": event.stream_id, "title": event.title}
    )


app = Flask("documents")
app.register_blueprint(health_blueprint(guard, authorize=who), url_prefix="/api/v1")
app.register_blueprint(admin_blueprint(guard, authorize=who, payloads_for="operator"), url_prefix="/api/v1")
app.register_blueprint(dashboard_blueprint(guard, authorize=visitor, payloads_for="operator", name="Documents"))


@app.post("/documents")
def upload() -> ResponseReturnValue:
    """Publish that a document was uploaded; the answer says what became of it in the read model."""
    match request.get_json():
        case {"title": str(title)}:
            event = DocumentUploaded(event_id=str(uuid4()), stream_id=str(uuid4()), title=title)
        case _:
            return {"error": 'send {"title": "..."}'}, 422
    (outcome,) = publisher.publish(event)
    return {"id": event.stream_id, "read_model": outcome.status.value}, 202


@app.get("/documents")
def list_documents() -> ResponseReturnValue:
    """Read the read model."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, title FROM documents ORDER BY title"))
        return jsonify([{"id": row.id, "title": row.title} for row in rows])


def main() -> None:
    """Make the tables, and let a worker retry and drain as long as the application runs."""
    guard.migrate()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS documents (id text PRIMARY KEY, title text)"))
    try:
        with guard.worker():
            serve(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
    finally:
        guard.close()
        engine.dispose()


if __name__ == "__main__":
    main()
