"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

pytest_plugins = ["tests.postgres_server", "tests.mariadb_server", "tests.turns", "tests.bed", "tests.compiled"]

# Files of SQLite, too: what is synced there waits for no disk. Machines whose memory is small keep them where they are.
_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
