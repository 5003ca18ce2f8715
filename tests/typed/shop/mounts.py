"""Routes and the dashboard in two frameworks."""

from __future__ import annotations

import fastapi
import flask

from projection_guard import AsyncProjectionGuard, ProjectionGuard
from projection_guard.fastapi import Actor, admin_router, dashboard_router, health_router
from projection_guard.flask import admin_blueprint, dashboard_blueprint, health_blueprint


async def who(request: fastapi.Request) -> Actor | None:
    """Say who asks."""
    name = request.headers.get("x-user")
    return Actor(name=name, role="operator") if name else None


def who_by_name(request: flask.Request) -> str | None:
    """Say who asks, by name."""
    return request.headers.get("x-user")


def who_plain(request: fastapi.Request) -> str | None:
    """The same, without waiting for anything."""
    return request.headers.get("x-user")


def in_fastapi(guard: ProjectionGuard | AsyncProjectionGuard) -> fastapi.FastAPI:
    """Mount everything."""
    app = fastapi.FastAPI()
    app.include_router(health_router(guard, authorize=who_plain, public_summary=False), prefix="/api/v1")
    app.include_router(admin_router(guard, authorize=who, payloads_for="operator"), prefix="/api/v1")
    app.include_router(dashboard_router(guard, authorize=who), prefix="/ops")
    return app


def in_flask(guard: ProjectionGuard) -> flask.Flask:
    """Mount everything."""
    app = flask.Flask("shop")
    app.register_blueprint(health_blueprint(guard, authorize=who_by_name), url_prefix="/api/v1")
    app.register_blueprint(admin_blueprint(guard, authorize=who_by_name), url_prefix="/api/v1")
    app.register_blueprint(dashboard_blueprint(guard, authorize=who_by_name), url_prefix="/ops")
    return app
