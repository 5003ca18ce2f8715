"""Fixtures of the fault tests: a proxy in front of a server, a process whose children die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bed import Bed
from tests.faults.proxy import Proxy
from tests.faults.zygote import Zygote


@pytest.fixture
def proxy(server_bed: Bed) -> Iterator[Proxy]:
    """A proxy in front of the server of `server_bed`: its guards go through it, its own looks do not."""
    with Proxy(server_bed.url) as made:
        server_bed.url = made.url
        yield made


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """A process that has imported everything, and whose children die."""
    with Zygote() as made:
        yield made
