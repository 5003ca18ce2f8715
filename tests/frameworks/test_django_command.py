"""`manage.py projection_guard ...`: the command line, for the guard that the settings name."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.bed import happened
from tests.frameworks.conftest import Project


def test_the_command_line_acts_on_the_guard_of_the_settings(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its words are passed on, and its exit code is the command's; without the setting it says what to set."""
    from tests import django_project

    django_project.set_up()
    from django.core.management import CommandError, call_command
    from django.test.utils import override_settings

    def broken(event: Any) -> None:
        raise ValueError("poison")

    project = Project(sqlite_url)
    guard = project.guard()
    project.shelved(guard, broken)
    guard.publisher().publish(happened("A", 1))
    module: Any = ModuleType("shop_of_the_test")
    module.guard = guard
    monkeypatch.setitem(sys.modules, "shop_of_the_test", module)
    with override_settings(PROJECTION_GUARD="shop_of_the_test:guard"):
        with pytest.raises(SystemExit) as ended:
            call_command("projection_guard", "status", "--json")
        assert ended.value.code == 10, "degraded, as docs/cli.md says"
        assert json.loads(capsys.readouterr().out)["total_active_failures"] == 1
    with pytest.raises(CommandError, match="set PROJECTION_GUARD"):
        call_command("projection_guard", "status")
    project.close()
