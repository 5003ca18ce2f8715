"""A document service in Flask with an event log of its own, whose read model follows the log and heals by itself.

    pip install 'projection-guard[flask]' waitress
    OPERATOR_KEY=change-me VIEWER_KEY=look-only python examples/flask_app/app.py

    curl -X PUT localhost:8000/folders/board
    curl localhost:8000/documents --json '{"folder": "board", "title": "Minutes"}'      # applied
    curl localhost:8000/documents --json '{"folder": "plans", "title": "Budget"}'       # failed: no such folder yet
    curl -X PUT localhost:8000/folders/plans                                            # a second later it has healed
    curl localhost:8000/documents
    curl -H 'Authorization: Bearer change-me' localhost:8000/api/v1/admin/projections/status

A folder that never comes is a failure for a person: http://localhost:8000/dashboard/ (any name, the key as password).
"""

from __future__ import annotations

import base64
import hmac
import os
from uuid import uuid4

from flask import Flask, Request, abort, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)
from waitress import serve
from werkzeug.datastructures import WWWAuthenticate

from projection_guard import ProjectionGuard, SqlEventSource
from projection_guard.flask import Actor, admin_blueprint, dashboard_blueprint, health_blueprint

DATABASE = os.environ.get("DATABASE_URL", "sqlite:///documents.db")
OPERATOR, VIEWER = os.environ.get("OPERATOR_KEY"), os.environ.get("VIEWER_KEY")
KEYS: dict[str, Actor] = {}
if OPERATOR:
    KEYS[OPERATOR] = Actor(name="operator", role="operator")
if VIEWER:  # where both keys are one, it is for looking only
    KEYS[VIEWER] = Actor(name="viewer", role="viewer")

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("event_type", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index("events_of_stream", "stream_id", "sequence"),
    sqlite_autoincrement=True,
)
folders = Table("folders", metadata, Column("name", Text, primary_key=True))
columns = [Column("id", Text, primary_key=True), Column("folder", Text), Column("title", Text)]
documents = Table("documents", metadata, *columns, Column("revision", Integer))


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


class Log:
    """The event log. What is committed here reaches the read model, whoever dies when."""

    def publish(self, event: dict[str, object]) -> None:
        """Append an event."""
        with engine.begin() as connection:
            connection.execute(insert(events).values(event))


engine = create_engine(DATABASE)
guard = ProjectionGuard(engine, source=SqlEventSource(engine, events))
publisher = guard.publisher(Log(), wait=5.0)  # appends, and waits until the read model has it: read your own writes


@guard.projection("DocumentProjection", on_reset=lambda connection: connection.execute(delete(documents)))
def project(event: dict[str, object], connection: Connection) -> None:
    """Write the read model, in the guard's transaction: exactly once, and each document's events in order."""
    match event:
        case {"event_type": "Uploaded", "stream_id": document, "data": {"folder": folder, "title": title}}:
            if connection.execute(select(folders).where(folders.c.name == folder)).first() is None:
                raise LookupError(f"there is no folder {folder!r} yet")
            connection.execute(insert(documents).values(id=document, folder=folder, title=title, revision=1))
        case {"event_type": "Renamed", "stream_id": document, "data": {"title": title}}:
            renamed = update(documents).where(documents.c.id == document)
            connection.execute(renamed.values(title=title, revision=documents.c.revision + 1))


app = Flask("documents")
app.register_blueprint(health_blueprint(guard, authorize=who), url_prefix="/api/v1")
app.register_blueprint(admin_blueprint(guard, authorize=who, payloads_for="operator"), url_prefix="/api/v1")
app.register_blueprint(dashboard_blueprint(guard, authorize=visitor, payloads_for="operator", name="Documents"))


def publish(event_type: str, document: str, *fields: str) -> ResponseReturnValue:
    """Publish what happened, and say what became of it in the read model."""
    body = request.get_json()
    if not isinstance(body, dict) or not all(isinstance(body.get(field), str) for field in fields):
        return {"error": f"send JSON with {' and '.join(fields)}"}, 422
    data = {field: body[field] for field in fields}
    event = {"event_id": str(uuid4()), "event_type": event_type, "stream_id": document, "data": data}
    (outcome,) = publisher.publish(event)
    return {"id": document, "read_model": outcome.status.value}, 202


@app.put("/folders/<name>")
def make_folder(name: str) -> ResponseReturnValue:
    """Make a folder. The read model is not told: it looks for folders when it files a document."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO folders VALUES (:name) ON CONFLICT DO NOTHING"), {"name": name})
    return "", 201


@app.post("/documents")
def upload() -> ResponseReturnValue:
    """Take a document in."""
    return publish("Uploaded", str(uuid4()), "folder", "title")


@app.put("/documents/<document>")
def rename(document: str) -> ResponseReturnValue:
    """Give it another title."""
    return publish("Renamed", document, "title")


@app.get("/documents")
def list_documents() -> ResponseReturnValue:
    """Read the read model."""
    with engine.connect() as connection:
        return jsonify([dict(row) for row in connection.execute(select(documents)).mappings()])


def main() -> None:
    """Make the tables, and let a worker follow, retry and drain as long as the application runs."""
    guard.migrate()
    metadata.create_all(engine)
    try:
        with guard.worker():
            serve(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
    finally:
        guard.close()
        engine.dispose()


if __name__ == "__main__":
    main()
