"""Lets what an application saves wake the followers of its log, without waiting for their next look."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import wraps
from typing import Any

from eventsourcing.application import Application
from eventsourcing.persistence import Recording

from .._publisher import Publisher

__all__ = ["publish_saves"]

log = logging.getLogger("projection_guard")


def publish_saves(application: Application[Any], publisher: Publisher) -> None:
    """Let `application.save()` of this object publish what it has recorded, once that is committed.

    `guard.publisher()` wakes who follows; with `wait=` saving returns once the events were applied, or after so long.
    What goes wrong in publishing is logged and not raised: the events are saved, and are found in the log.
    """
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
