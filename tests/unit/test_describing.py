"""Any exception becomes text that any database takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

import projection_guard
from projection_guard import ProjectionGuard
from projection_guard._core.describing import describe


class _Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_message_of_5_mb_is_cut_and_marked() -> None:
    """With NUL bytes and half surrogates in it, too."""
    described = describe(_raised(ValueError("\0\ud800" * 2_500_000)))
    assert len(described.message) < 100_000
    assert "truncated, 5000000 characters" in described.message
    assert "\0" not in described.message
    described.message.encode()


def test_an_exception_without_text_is_described_all_the_same() -> None:
    """Its `__str__` raises."""
    described = describe(_raised(_Silent()))
    assert described.type.endswith("_Silent")
    assert "RuntimeError" in described.message


def test_a_database_error_is_told_without_its_parameters() -> None:
    """SQLAlchemy's text would carry the read model's data."""
    error = IntegrityError("INSERT INTO t VALUES (:secret)", {"secret": "s3cr3t"}, Exception("UNIQUE failed"))
    described = describe(_raised(error))
    assert "s3cr3t" not in described.message + (described.traceback or "")
    assert described.message == "UNIQUE failed"


def test_like_errors_have_one_fingerprint() -> None:
    """The message may differ; the type and the handler's frames do not."""

    def handler(n: int) -> Exception:
        return _raised(ValueError(f"order {n}"))

    assert describe(handler(1)).fingerprint == describe(handler(2)).fingerprint
    assert describe(handler(1)).fingerprint != describe(_raised(KeyError("x"))).fingerprint


def test_causes_are_told_and_a_circle_of_them_ends() -> None:
    """A cause that causes itself is told once."""
    outer, inner = ValueError("outer"), KeyError("inner")
    outer.__cause__, inner.__cause__ = inner, outer
    described = describe(_raised(outer))
    assert described.traceback is not None
    assert described.traceback.count("caused by") == 1


def test_of_a_group_it_is_told_what_is_in_it() -> None:
    """Its own text says only how many; what each says is told by the rules for each, and where it came from."""

    def task() -> Exception:
        return _raised(ValueError("order 7 has no lines"))

    def group(*errors: Exception) -> Exception:
        return _raised(ExceptionGroup("tasks", errors))

    secret = IntegrityError("INSERT INTO t VALUES (:secret)", {"secret": "s3cr3t"}, Exception("UNIQUE failed"))
    described = describe(group(task(), ExceptionGroup("inner", [secret])))
    assert "[ValueError: order 7 has no lines]" in described.message
    assert "UNIQUE failed" in described.message
    assert described.traceback is not None
    assert described.traceback.count("in _raised") == 2  # the group's, the task's: the inner ones were never raised
    assert "s3cr3t" not in described.message + described.traceback
    assert described.fingerprint != describe(group(KeyError("x"))).fingerprint
    assert len(describe(group(*[ValueError("x" * 5_000)] * 1_000)).message) <= 10_000


def test_a_traceback_begins_with_the_handlers_own_frames() -> None:
    """The way to it through the library is always the same, and hides what a person looks for."""

    def reads_a_place(event: object, connection: object) -> None:
        raise ValueError("no place")

    with ProjectionGuard("sqlite://", worker="external") as guard:
        guard.migrate()
        guard.projection("Places")(reads_a_place)
        guard.apply("Places", {"event_id": "1", "event_type": "Left", "stream_id": "a"})
        (failure,) = guard.failures("Places").items
    assert failure.error_traceback is not None
    assert failure.error_traceback.splitlines()[0].endswith("in reads_a_place")


def test_a_package_whose_name_begins_like_ours_is_none_of_ours() -> None:
    """Its handlers' frames tell errors apart, and begin the traceback."""
    place = Path(projection_guard.__file__).parents[1] / "projection_guard_shop" / "handlers.py"
    names: dict[str, Any] = {}
    exec(compile("def one(event): raise LookupError\ndef another(event): raise LookupError", place, "exec"), names)
    with ProjectionGuard("sqlite://", worker="external") as guard:
        guard.migrate()
        for name in ("one", "another"):
            guard.projection(name)(names[name])
            guard.apply(name, {"event_id": "1", "event_type": "Left", "stream_id": "a"})
        one, another = guard.failures().items
    assert one.fingerprint != another.fingerprint
    assert str(place) in (one.error_traceback or "").splitlines()[0]
