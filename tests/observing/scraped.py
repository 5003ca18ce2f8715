"""What a registry exports, as numbers."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from projection_guard.prometheus import metrics_text

__all__ = ["Scraped", "samples_of", "scraped"]


class Scraped(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of a scrape, by name and labels."""

    def of(self, name: str, **labels: str) -> float:
        """Return one sample, 0 where it is not there."""
        return self.get((f"projection_guard_{name}", frozenset(labels.items())), 0.0)

    def names(self) -> set[str]:
        """Return the names of our samples."""
        return {name for name, _ in self if name.startswith("projection_guard_")}

    def labels(self, name: str) -> set[str]:
        """Return the names of the labels that the samples of a name have."""
        return {label for found, labels in self if found == name for label, _ in labels}

    def above_0(self, name: str, *labels: str) -> dict[tuple[str, ...], int]:
        """Return the samples of a counter that are not 0, by the values of these labels."""
        full = f"projection_guard_{name}"
        found = {
            tuple(dict(given)[label] for label in labels): int(n) for (each, given), n in self.items() if each == full
        }
        return {key: n for key, n in sorted(found.items()) if n}


def samples_of(text: str) -> Scraped:
    """Read what was scraped."""
    families: Iterable[object] = text_string_to_metric_families(text)
    return Scraped(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples  # type: ignore[attr-defined]
        }
    )


def scraped(registry: CollectorRegistry) -> Scraped:
    """Scrape a registry."""
    return samples_of(metrics_text(registry=registry).body.decode())
