"""Thin on purpose: the environment is the package's own, so that the checkout and every wheel run the same."""

from __future__ import annotations

from projection_guard.migrations._environment import run

run()
