"""Thin on purpose: the environment is the package's own, so that the checkout and every wheel run the same."""

from __future__ import annotations

from importlib import reload

import projection_guard.migrations

if hasattr(projection_guard.migrations, "env"):
    reload(projection_guard.migrations.env)
else:
    import projection_guard.migrations.env
