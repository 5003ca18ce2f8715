"""When people are told is decided by pure functions: thresholds, hysteresis, reminders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tenacity import wait_fixed

from projection_guard import AlertKind, AlertPolicy, ConfigurationError, WorkerState
from projection_guard._alert_rules import Sign, Standing, _number, sign_of_worker, step
from projection_guard._alert_words import severity_of, text_of, title_of
from projection_guard._alerts import AlertState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
INCIDENT = UUID(int=1)
POLICY = AlertPolicy(fires_after_seconds=30, clears_after_seconds=60, reminder_seconds=600)


class Course:
    """A condition over time: `at(seconds, level)` returns what is told."""

    def __init__(self, kind: AlertKind, policy: AlertPolicy = POLICY) -> None:
        self.kind = kind
        self.policy = policy
        self.standing: Standing | None = None

    def at(self, seconds: float, level: int, *, between: bool = False) -> str | None:
        sign = Sign(kind=self.kind, level=level, may_clear=level == 0 and not between)
        now = BEGAN + timedelta(seconds=seconds)
        came = step(self.standing, sign, self.policy, incident=INCIDENT, now=now)
        self.standing = came.standing
        return came.told

    def told(self, *seen: tuple[float, int]) -> list[str | None]:
        return [self.at(seconds, level) for seconds, level in seen]


def test_what_holds_is_told_once_and_its_end_once_it_has_lasted() -> None:
    """A number above its threshold at once; clear after a minute without a break."""
    course = Course(AlertKind.LAG)
    assert course.told((0, 0), (5, 1), (10, 1), (15, 0), (70, 0)) == [None, "firing", None, None, None]
    assert course.told((75, 0), (80, 0)) == ["recovered", None]
    assert course.standing is None


def test_what_flaps_is_told_once() -> None:
    """Each time it holds again the minute begins anew."""
    course = Course(AlertKind.ACTIVE_FAILURES)
    assert course.at(0, 1) == "firing"
    for second in range(50, 1000, 50):
        told = course.told((second, 0), (second + 40, 1))
        assert [each for each in told if each != "reminder"] in ([None, None], [None])


def test_between_the_thresholds_it_is_neither_told_nor_over() -> None:
    """The lower threshold has to be passed for being over."""
    course = Course(AlertKind.LAG)
    assert course.at(0, 0, between=True) is None
    assert course.at(5, 1) == "firing"
    assert [course.at(second, 0, between=True) for second in (10, 200, 500)] == [None] * 3
    assert course.told((505, 0), (565, 0)) == [None, "recovered"]


def test_a_status_has_to_last_first() -> None:
    """A retry that heals within seconds is no news."""
    course = Course(AlertKind.STATUS)
    assert course.told((0, 1), (10, 0), (20, 1), (40, 1), (49, 2)) == [None] * 5
    assert course.told((50, 2), (55, 2)) == ["firing", None]


def test_a_status_that_becomes_worse_is_told_at_once_and_better_once_it_lasts() -> None:
    """Offline, then degraded for a minute, then healthy for a minute; the incident is one."""
    course = Course(AlertKind.STATUS)
    assert course.told((0, 1), (30, 1), (35, 3)) == [None, "firing", "firing"]
    assert course.told((40, 1), (70, 0), (100, 1)) == [None, None, "firing"]
    assert course.standing is not None
    assert (course.standing.level, course.standing.incident) == (1, INCIDENT)
    assert course.told((110, 0), (170, 0)) == [None, "recovered"]


def test_what_goes_on_is_told_again_from_time_to_time() -> None:
    """Every ten minutes here; never with None, nor what was skipped, which stays on record for good."""
    course = Course(AlertKind.EXHAUSTED)
    assert course.told((0, 1), (599, 1), (600, 1), (1100, 1), (1200, 1)) == [
        "firing",
        None,
        "reminder",
        None,
        "reminder",
    ]
    assert Course(AlertKind.EXHAUSTED, AlertPolicy(reminder_seconds=None)).told((0, 1), (1e6, 1)) == ["firing", None]
    assert Course(AlertKind.SKIPPED).told((0, 1), (1e6, 1), (1e6 + 1, 2)) == ["firing", None, "firing"]


@pytest.mark.parametrize(
    ("lag", "level", "may_clear"), [(301, 1, False), (300, 0, False), (150, 0, False), (149, 0, True), (0, 0, True)]
)
def test_two_thresholds(lag: float, level: int, may_clear: bool) -> None:
    """Told above 300, over below half of that; in between neither."""
    sign = _number(AlertKind.LAG, lag, 300.0, AlertPolicy(), {})
    assert (sign.level, sign.may_clear) == (level, may_clear)


def a_worker(name: str, *, silent: float, began: float = 0.0, **other: Any) -> WorkerState:
    """Return a worker that began so long after the beginning."""
    fields: dict[str, Any] = {
        "worker_id": name,
        "kind": "service",
        "host": "h",
        "process_id": 7,
        "library_version": "1",
        "projections": ("P", "Q"),
        "started_at": BEGAN + timedelta(seconds=began),
        "seen_at": BEGAN + timedelta(seconds=100),
        "stopping_at": None,
        "silent_seconds": silent,
    }
    return WorkerState(**fields | other)


@pytest.mark.parametrize(
    ("other", "is_over"),
    [
        (a_worker("new", silent=1, began=101), True),
        (a_worker("older", silent=1, began=99), False),
        (a_worker("gone too", silent=100, began=101), False),
        (a_worker("beside", silent=1, began=101, kind="embedded"), False),
        (a_worker("less", silent=1, began=101, projections=("P",)), False),
    ],
)
def test_a_worker_that_is_gone_is_over_once_another_one_has_taken_its_place(other: WorkerState, is_over: bool) -> None:
    """It began later, lives, is a service, and has all of its projections. It is told first all the same."""
    gone = a_worker("gone", silent=61)
    assert sign_of_worker(gone, POLICY, [gone, other], is_told=False).level == 1
    sign = sign_of_worker(gone, POLICY, [gone, other], is_told=True)
    assert (sign.level, sign.may_clear, "replaced_by" in sign.facts) == (1 - is_over, is_over, is_over)


def test_a_worker_is_gone_after_more_than_a_minute() -> None:
    """A sign of life comes every 10 s."""
    assert [sign_of_worker(a_worker("w", silent=s), POLICY, [], is_told=False).level for s in (60, 60.1)] == [0, 1]


@pytest.mark.parametrize("state", ["firing", "reminder", "recovered"])
@pytest.mark.parametrize("kind", list(AlertKind))
def test_every_alert_says_what_it_is_and_what_to_do(kind: AlertKind, state: AlertState) -> None:
    """By the projection's name, which may be any, and with nothing left to fill in."""
    facts = {
        "status": "offline",
        "before": "healthy",
        "reasons": ["held", "left_job"] if kind is AlertKind.STUCK else ["12 unresolved failures"],
        "active_failures": 12,
        "exhausted_failures": 1,
        "lag_seconds": 301.2,
        "lag_events": 1,
        "given_up": 1,
        "holes": 2,
        "errors": [{"error_type": "ValueError", "fingerprint": "f", "count": 12}],
    }
    title, text = title_of(kind, state, "O'Neil/1", facts), text_of(kind, state, "O'Neil/1", facts)
    assert "\n" not in title
    assert "<" not in title + text
    assert text.endswith(".")
    if state != "recovered" and kind not in (AlertKind.WORKER_GONE, AlertKind.TEST):
        assert "GET /health/projections/O%27Neil%2F1" in text
        assert 'guard.health("O\'Neil/1")' in text
    if state == "recovered":
        assert severity_of(kind, state, facts) == "info"


@pytest.mark.parametrize(
    "options",
    [
        {"active_failures": -1},
        {"lag_seconds": 0},
        {"worker_gone_seconds": -1.0},
        {"clears_after_seconds": float("nan")},
        {"timeout_seconds": 301},
        {"timeout_seconds": 0},
        {"clears_below": 0},
        {"clears_below": 1.1},
        {"to": ["https://example.org"]},
        {"to": print},
        {"projections": {"P": AlertPolicy(to=[print])}},
        {"projections": {"P": AlertPolicy(projections={"Q": None})}},
    ],
)
def test_a_policy_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """In one sentence, when it is made."""
    with pytest.raises(ConfigurationError):
        AlertPolicy(**options)


def test_single_projections_may_have_a_policy_of_their_own_or_none() -> None:
    """All others have the common one."""
    own = AlertPolicy(active_failures=3)
    policy = AlertPolicy(projections={"Noisy": own, "Experiment": None})
    assert policy.of("Noisy") is own
    assert policy.of("Experiment") is None
    assert policy.of("Other") is policy


def test_the_wait_is_tenacitys() -> None:
    """By default 5, 10, 20 s and so on, up to 10 minutes."""
    assert [AlertPolicy().next_attempt_seconds(number) for number in (1, 2, 3, 20)] == [5, 10, 20, 600]
    assert AlertPolicy(wait=wait_fixed(3)).next_attempt_seconds(9) == 3
