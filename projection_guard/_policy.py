"""When a failed event is tried again, and when a person has to look: decided here, acted on elsewhere.

`RetryPolicy` is made of tenacity's own `wait`, `stop` and `retry` objects. They are asked only after a failure, with a
`RetryCallState` that tells the history of the failure's row, so that a decision is the same in whichever process it
is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final, cast

from sqlalchemy.exc import DBAPIError, InterfaceError
from tenacity import RetryCallState, Retrying
from tenacity.retry import retry_base, retry_if_exception
from tenacity.stop import stop_after_attempt, stop_base
from tenacity.wait import wait_base, wait_exponential

from .errors import ConfigurationError, PermanentFailure, RetryAfter

__all__ = [
    "Breaker",
    "RetryPolicy",
    "Verdict",
    "VerdictKind",
    "call_state",
    "chained",
    "decide",
    "in_group",
    "is_lost_connection",
    "probe_pause",
]

UNLIMITED: Final = 2**31 - 1
_MOST_ATTEMPTS_COUNTED: Final = 10_000
_LONGEST_TRANSIENT_WAIT_SECONDS: Final = 60.0
_LONGEST_WAIT_SECONDS: Final = timedelta(days=365).total_seconds()
_UNANSWERED: Final = ("OperationalError", "PoolTimeout")
"""What psycopg and its pool raise, by name, for neither need be installed."""
_NEVER_CALLED: Final = Retrying()


def in_group(error: BaseException) -> Sequence[BaseException]:
    """Return the errors of which a group is made; none, where it is no group."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    group = cast("BaseExceptionGroup[BaseException]", error)
    return group.exceptions


def chained(error: BaseException, *, into_groups: bool = False) -> Iterator[BaseException]:
    """Return an error and what it came of, each once; `into_groups` also what is in a group, before what that came of.

    An error that was taken out of a group and raised came of that group, and is still in it.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        before = current.__cause__ or current.__context__
        if before is not None:
            waiting.append(before)
        if into_groups:
            waiting.extend(reversed(in_group(current)))


def _is_asyncpgs_own(error: InterfaceError) -> bool:
    """Return whether asyncpg refused something by itself, such as a value too many; the connection is well."""
    cause = getattr(error.orig, "__cause__", None)
    return type(cause).__module__.startswith("asyncpg.") and "clos" not in str(cause)


_MYSQL_LOST: Final = frozenset({1053, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})


def _is_mysqls(error: BaseException) -> bool:
    return type(error).__module__.startswith(("pymysql", "asyncmy"))


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says that a connection was cut or never came about, wherever in its chain it stands."""
    for current in chained(error):
        if isinstance(current, ConnectionError):
            return True
        if isinstance(current, DBAPIError) and current.connection_invalidated:
            return True
        if isinstance(current, InterfaceError) and not _is_asyncpgs_own(current):
            return True
        if str(getattr(current, "sqlstate", "")).startswith("08"):  # asyncpg's own, where a handler uses it
            return True
        if _is_mysqls(current) and current.args and current.args[0] in _MYSQL_LOST:
            return True
        if type(current).__name__ in _UNANSWERED and getattr(current, "sqlstate", "none here") is None:
            # psycopg's own: the server never answered, so there is no SQLSTATE. Or the statement was never sent.
            return "number of parameters" not in str(current)
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When a row of failures is taken for an outage, and how often the projection is then probed.

    The projection is held after `failures` failed attempts in a row over at least `streams` streams with no success
    between. The first probe comes after `first_pause_seconds`; each failed one doubles the pause, up to
    `longest_pause_seconds`.
    """

    failures: int = 100
    streams: int = 10
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.failures < 1 or self.streams < 1 or self.streams > self.failures:
            raise ConfigurationError("Breaker needs failures >= streams >= 1")
        if not 0 < self.first_pause_seconds <= self.longest_pause_seconds:
            raise ConfigurationError("Breaker needs 0 < first_pause_seconds <= longest_pause_seconds")


def _default_wait() -> wait_base:
    return wait_exponential(multiplier=1, exp_base=2)


def _any_exception() -> retry_base:
    return retry_if_exception(lambda error: isinstance(error, Exception))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when a failed event is tried again; by default after 1, 2, 4, 8 and 16 seconds.

    `wait`, `stop` and `retry` are tenacity's own; `stop_after_attempt(n)` counts the first delivery, so the default of
    6 means five retries. The first `immediate` retries are made by the process that saw the failure, later ones by any
    worker; `blocking=True` makes `publish` wait for the immediate ones. `permanent` errors are never retried.
    `transient` (a tuple of classes, or a predicate; lost connections by default) errors never exhaust an event: they
    only back off. `breaker=None` never takes a row of failures for an outage.
    """

    wait: wait_base | Callable[[RetryCallState], float] = field(default_factory=_default_wait)
    stop: stop_base | Callable[[RetryCallState], bool] = field(default_factory=lambda: stop_after_attempt(6))
    retry: retry_base | Callable[[RetryCallState], bool] = field(default_factory=_any_exception)
    immediate: int = 3
    blocking: bool = False
    permanent: tuple[type[Exception], ...] = ()
    transient: tuple[type[Exception], ...] | Callable[[BaseException], bool] = is_lost_connection
    breaker: Breaker | None = field(default_factory=Breaker)
    max_retries: int = field(init=False)

    def __post_init__(self) -> None:
        if self.breaker is not None and type(self.breaker) is not Breaker:
            raise ConfigurationError(f"RetryPolicy(breaker=...) takes a Breaker or None, not {self.breaker!r}")
        if self.immediate < 0:
            raise ConfigurationError(f"RetryPolicy(immediate=...) takes 0 or more, not {self.immediate}")
        for name, part in (("wait", self.wait), ("stop", self.stop), ("retry", self.retry)):
            if not callable(part):
                raise ConfigurationError(
                    f"RetryPolicy({name}=...) takes one of tenacity's {name} objects, not {part!r}"
                )
        object.__setattr__(self, "max_retries", self._count_retries())

    def _count_retries(self) -> int:
        """Ask `stop` how many attempts it allows when no time passes; a stop that never answers is unlimited."""
        error = ConfigurationError("probe")
        for attempt in range(1, _MOST_ATTEMPTS_COUNTED + 1):
            if self.stop(call_state(attempt, error, 0.0)):
                return attempt - 1
        return UNLIMITED

    def is_transient(self, error: BaseException) -> bool:
        """Return whether this error only backs off and never exhausts an event; of a group, whether all in it do."""
        transient = self.transient
        if not isinstance(transient, tuple):
            is_so = transient(error)
        else:
            is_so = isinstance(error, cast("tuple[type[BaseException], ...]", transient))
        parts = in_group(error)
        return is_so or (bool(parts) and all(self.is_transient(part) for part in parts))


class VerdictKind(StrEnum):
    """What a failed attempt leads to."""

    RETRY = "retry"
    TRANSIENT = "transient"
    EXHAUSTED = "exhausted"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from a failed attempt. `delay_seconds` is None when no retry is planned."""

    kind: VerdictKind
    delay_seconds: float | None


def decide(
    policy: RetryPolicy,
    error: Exception,
    *,
    retry_count: int,
    max_retries: int | None = None,
    elapsed_seconds: float = 0.0,
    attempts: int | None = None,
) -> Verdict:
    """Say what follows after `retry_count` retries (0: the first delivery failed), all of them in vain.

    `max_retries` is the row's own limit and wins over the policy's; `elapsed_seconds` counts from the first failure,
    for stops that look at the time. `attempts` counts all calls, those that were given back included: a transient
    error backs off by it, up to a minute, so that an outage's end is noticed.
    """
    if any(isinstance(part, (PermanentFailure, *policy.permanent)) for part in _parts(error)):
        return Verdict(kind=VerdictKind.PERMANENT, delay_seconds=None)
    attempt = retry_count + 1
    if policy.is_transient(error):
        delay = _delay(policy, error, attempts or attempt, elapsed_seconds)
        if _asked_seconds(error) is None:
            delay = min(delay, _LONGEST_TRANSIENT_WAIT_SECONDS)
        return Verdict(kind=VerdictKind.TRANSIENT, delay_seconds=delay)
    if not policy.retry(call_state(attempt, error, elapsed_seconds)):
        return Verdict(kind=VerdictKind.PERMANENT, delay_seconds=None)
    limit = policy.max_retries if max_retries is None else max_retries
    if retry_count >= limit or _time_is_up(policy, error, attempt, elapsed_seconds):
        return Verdict(kind=VerdictKind.EXHAUSTED, delay_seconds=None)
    return Verdict(kind=VerdictKind.RETRY, delay_seconds=_delay(policy, error, attempt, elapsed_seconds))


def _parts(error: BaseException) -> Iterator[BaseException]:
    """Return an error, and what is in it if it is a group."""
    yield error
    for part in in_group(error):
        yield from _parts(part)


def _asked_seconds(error: BaseException) -> float | None:
    """Return when the handler asked to be called again, if it did; of a group, the latest of what is in it."""
    return max((part.seconds for part in _parts(error) if isinstance(part, RetryAfter)), default=None)


def _time_is_up(policy: RetryPolicy, error: Exception, attempt: int, elapsed_seconds: float) -> bool:
    """Evaluate the stop's time-based part: at an attempt number at which its counting part cannot yet fire."""
    if policy.max_retries == 0:
        return False
    return policy.stop(call_state(min(attempt, policy.max_retries), error, elapsed_seconds))


def _delay(policy: RetryPolicy, error: Exception, attempt: int, elapsed_seconds: float) -> float:
    asked = _asked_seconds(error)
    if asked is not None:
        return min(asked, _LONGEST_WAIT_SECONDS)
    try:
        seconds = float(policy.wait(call_state(attempt, error, elapsed_seconds)))
    except OverflowError:
        return _LONGEST_WAIT_SECONDS
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS) if seconds == seconds else _LONGEST_WAIT_SECONDS


def call_state(attempt: int, error: BaseException, elapsed_seconds: float) -> RetryCallState:
    """Return the state that tenacity's objects read, from what the failure's row says."""
    state = RetryCallState(_NEVER_CALLED, None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, None))
    state.start_time = (state.outcome_timestamp or 0.0) - elapsed_seconds
    return state


def probe_pause(breaker: Breaker, failed_probes: int) -> float:
    """Return the seconds until the next probe of a held projection, after that many probes in vain."""
    doubled = breaker.first_pause_seconds * 2.0 ** min(failed_probes, 60)
    return min(doubled, breaker.longest_pause_seconds)
