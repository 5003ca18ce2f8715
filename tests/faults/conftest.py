"""Fixtures of the fault tests: a proxy in front of PostgreSQL, a process whose children die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bed import Bed
from tests.faults.proxy import Proxy
from tests.faults.zygote import Zygote


@pytest.fixture
def proxy(postgres_bed: Bed) -> Iterator[Proxy]:
    """A proxy in front of the PostgreSQL of `postgres_bed`: its guards go through it, its own looks do not."""
    with Proxy(postgres_bed.url) as made:
        postgres_bed.url = made.url
        yield made


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """A process that has imported everything, and whose children die."""
    with Zygote() as made:
        yield made
