"""Where Alembic begins when `script_location` is `projection_guard:migrations`."""

from __future__ import annotations

from projection_guard.migrations._environment import run

run()
