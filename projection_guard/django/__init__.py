"""projection_guard in a Django project: a guard on one of its databases, and handlers that write by its ORM.

    # settings.py
    INSTALLED_APPS = [..., "projection_guard.django"]
    PROJECTION_GUARD = "shop.projections:guard"          # for `manage.py projection_guard ...`

    # shop/projections.py
    guard = ProjectionGuard(engine())                    # on DATABASES["default"]

    @guard.projection("DocumentProjection", handles=[DocumentUploaded])
    @with_orm
    def documents(event):
        Document.objects.create(id=event.stream_id, title=event.title)

What the ORM writes in such a handler is committed together with the guard's bookkeeping. `projection_guard.django.urls`
has the routes and the dashboard.
"""

from __future__ import annotations

try:
    from ._connecting import engine
    from ._joining import with_orm
except ImportError as error:
    raise ImportError(f"projection_guard.django needs {error.name}: pip install 'projection-guard[django]'") from error

__all__ = ["engine", "with_orm"]
