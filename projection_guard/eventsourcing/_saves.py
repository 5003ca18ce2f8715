"""Lets what an application saves wake the followers of its log, without waiting for their next look."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import wraps
from typing import Any

from eventsourcing.application import Application
from eventsourcing.persistence import Recording

from .._publisher import Publisher
from ..errors import ConfigurationError

__all__ = ["publish_saves"]

log = logging.getLogger("projection_guard")


def publish_saves(application: Application[Any], publisher: Publisher) -> None:
    """Let `application.save()` of this object publish what it has recorded, once that is committed.

    `guard.publisher()` wakes who follows; with `wait=` saving returns once the events were applied, or after so long.
    What goes wrong in publishing is logged and not raised: the events are saved, and are found in the log. Raises
    `ConfigurationError` for the publisher of a guard without a source, where they would be lost, and for an async one.
    """
    if not isinstance(publisher, Publisher):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            "publish_saves takes a blocking guard's publisher, for save() does not wait on another; with an async "
            "guard: await publisher.publish_all(recording.domain_event for recording in app.save(...))"
        )
    if not publisher.has_source:
        raise ConfigurationError(
            "publish_saves needs a guard with source=ApplicationSource(application): what is not delivered while "
            "saving is found there, and nowhere else"
        )
    save = application.save

    @wraps(save)
    def save_and_publish(*objects: Any, **options: Any) -> list[Recording[Any]]:
        recordings: list[Recording[Any]] = save(*objects, **options)
        _publish(publisher, [recording.domain_event for recording in recordings])
        return recordings

    setattr(application, "save", save_and_publish)  # noqa: B010  # on this object only


def _publish(publisher: Publisher, events: Sequence[object]) -> None:
    try:
        publisher.publish_all(events)
    except Exception as error:
        log.warning("followers were not told of %d saved events: %s", len(events), type(error).__name__)
