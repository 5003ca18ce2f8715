"""What people look at and do."""

from __future__ import annotations

from typing import assert_type
from uuid import UUID

from projection_guard import (
    Attempt,
    AuditEntry,
    Checkpoint,
    Failure,
    FailureFilter,
    FailureGroup,
    Health,
    HealthStatus,
    Outcome,
    Page,
    ProjectionGuard,
    ProjectionGuardError,
    Replay,
    StreamState,
    SystemStatus,
    UnknownFailure,
)


def look(guard: ProjectionGuard) -> list[str]:
    """Look at everything."""
    health = guard.health("Orders")
    assert_type(health, Health)
    assert_type(guard.health(), tuple[Health, ...])
    assert_type(guard.status(), SystemStatus)
    assert_type(guard.checkpoint("Orders"), Checkpoint)
    page = guard.failures("Orders", include_resolved=True, limit=10)
    assert_type(page, Page[Failure])
    assert_type(guard.failures(where=FailureFilter(state="exhausted")), Page[Failure])
    assert_type(guard.failure_groups(), Page[FailureGroup])
    assert_type(guard.streams("Orders", state="tainted"), Page[StreamState])
    assert_type(guard.audit(), Page[AuditEntry])
    words: list[str] = []
    while True:
        for failure in page.items:
            assert_type(failure.id, UUID)
            assert_type(guard.attempts(failure.id), tuple[Attempt, ...])
            words.append(f"{failure.error_type} at {failure.failed_at.isoformat()}: {failure.is_exhausted}")
        if page.after is None:
            break
        page = guard.failures("Orders", after=page.after)
    if health.status is not HealthStatus.HEALTHY:
        words.extend(health.reasons)
    return words


def act(guard: ProjectionGuard, failure_id: UUID | str) -> Outcome | None:
    """Act on one failure, and on the whole."""
    try:
        outcome = guard.resolve(failure_id, "retry", actor="alice", note="fixed in 1.2.3")
    except UnknownFailure:
        return None
    except ProjectionGuardError as error:
        raise SystemExit(str(error)) from error
    assert_type(outcome, Outcome)
    assert_type(guard.untaint("Orders", "order-7", actor="alice", tainted_reason="as it was seen"), bool)
    guard.pause("Orders", actor="alice", reason="a look")
    guard.resume("Orders", actor="alice")
    guard.reset("Orders", actor="alice")
    assert_type(guard.replay("Orders", from_sequence=1, to_sequence=10, actor="alice"), Replay)
    assert_type(guard.rebuild("Orders", actor="alice"), Replay)
    return outcome
