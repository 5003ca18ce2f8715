"""Refusals leave a trace for whoever watches."""

from __future__ import annotations

import logging

import pytest

from tests.http.stage import Stage


def test_refusals_are_on_record(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Who was refused what, why, and in which request."""
    served = stage.serve(rate_limit="1/minute")
    served.client.get("/admin/projections/status")
    served.viewer.post("/admin/projections/P/pause", headers={"X-Request-ID": "r-1"})
    for _ in range(2):
        served.operator.post("/admin/projections/P/reset")
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("route status: refused to nobody, not-authenticated" in line for line in told) == 1
    assert "route pause: refused to Viktor, not-allowed (request r-1)" in told
    assert sum("route reset: refused to Olga, too-often" in line for line in told) == 1
