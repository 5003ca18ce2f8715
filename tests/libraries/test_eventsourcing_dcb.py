"""DCB applications of `eventsourcing`: their log as a source, and what it is to a projection that events have tags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import pytest

from tests.libraries.eventsourcing_shop import change, environment

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'projection-guard[postgresql]'")

from eventsourcing.dcb.api import DCBEvent, DCBRecorder
from eventsourcing.dcb.application import DCBApplication
from eventsourcing.dcb.domain import Decision, Tagged
from eventsourcing.dcb.persistence import DCBMapper
from eventsourcing.utils import get_topic, resolve_topic
from sqlalchemy import Connection, text

from projection_guard import ProjectionGuard
from projection_guard.errors import ConfigurationError
from projection_guard.eventsourcing import DCBApplicationSource, TaggedDecision, by_tag
from projection_guard.testing import PostgresServer
from projection_guard.testing.source_conformance import SourceConformance
from tests.bed import AT_ONCE


@dataclass
class Enrolled(Decision):
    """A student has joined a course: a decision about both."""

    student: str
    course: str


class AsJson(DCBMapper[Any]):
    """How decisions are stored."""

    def to_dcb_event(self, event: Tagged[Any]) -> DCBEvent:
        data = json.dumps(asdict(event.decision)).encode()
        return DCBEvent(type=get_topic(type(event.decision)), data=data, tags=event.tags)

    def to_domain_event(self, event: DCBEvent) -> Tagged[Any]:
        return Tagged(tags=event.tags, decision=resolve_topic(event.type)(**json.loads(event.data)))


class School(DCBApplication):
    """With a mapper, so that its log has decisions."""


def school(settings: dict[str, str] | None = None) -> School:
    """Make the application."""
    return School(env={"MAPPER_TOPIC": get_topic(AsJson), **(settings or {})})


def enrol(application: Any, student: str, *courses: str) -> int:
    """Append one event; return its position."""
    tagged = Tagged(tags=[student, *courses], decision=Enrolled(student=student, course=courses[0]))
    position: int = application.events.append([tagged])
    return position


def on_postgresql(url: str) -> dict[str, str]:
    """Return the settings of the library's recorder there."""
    return {**environment("postgresql", url), "PERSISTENCE_MODULE": "eventsourcing.dcb.postgres_tt"}


class DcbConformance(SourceConformance):
    """A log in which the second tag of each event is its stream."""

    application: School

    def source(self) -> DCBApplicationSource:
        return DCBApplicationSource(self.application, stream_of=lambda tags: tags[1])

    def append(self, *stream_ids: str) -> list[str]:
        last = self.application.recorder.append([self.event(each) for each in stream_ids])
        return [str(last - len(stream_ids) + 1 + number) for number in range(len(stream_ids))]

    def event(self, stream_id: str) -> DCBEvent:
        """Make an event of a stream."""
        mapper: Any = self.application.mapper
        made: DCBEvent = mapper.to_dcb_event(Tagged(tags=["ann", stream_id], decision=Enrolled("ann", stream_id)))
        return made


class TestInMemory(DcbConformance):
    @pytest.fixture(autouse=True)
    def log(self) -> Iterator[None]:
        with school() as self.application:
            yield


@pytest.fixture(scope="module")
def one_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for all logs of this file, one after the other."""
    with postgres_server.database() as url:
        yield url


class TestOnPostgresql(DcbConformance):
    """The library's unconditional append takes no lock: its transactions are side by side."""

    @pytest.fixture(autouse=True)
    def log(self, one_postgres_url: str) -> Iterator[None]:
        self.url = one_postgres_url
        with school(on_postgresql(one_postgres_url)) as self.application:
            yield
        change(self.url, "TRUNCATE school_events_tt_main RESTART IDENTITY CASCADE")

    def append(self, *stream_ids: str) -> list[str]:
        with self.append_in_open_transaction(*stream_ids) as ids:
            return ids

    def remove(self, sequence: int) -> None:
        change(self.url, f"DELETE FROM school_events_tt_tag WHERE main_id = {sequence}")
        change(self.url, f"DELETE FROM school_events_tt_main WHERE id = {sequence}")

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        recorder = cast("Any", self.application.recorder)
        made = recorder.construct_psycopg_dcb_events([self.event(each) for each in stream_ids])
        with recorder.datastore.transaction(commit=True) as cursor:
            recorder._unconditional_append(cursor, made)
            cursor.execute("SELECT id FROM school_events_tt_main WHERE xmin = pg_current_xact_id()::xid ORDER BY id")
            yield [str(row["id"]) for row in cursor.fetchall()]


@contextmanager
def following(application: School, **options: Any) -> Iterator[tuple[ProjectionGuard, list[str], set[str]]]:
    """Yield a guard that follows with one projection, what it has noted, and the courses on which it fails."""
    noted: list[str] = []
    failing: set[str] = set()
    source = DCBApplicationSource(application, stream_of=options.pop("stream_of", by_tag("course-")))
    with ProjectionGuard("sqlite://", source=source, retry=AT_ONCE, worker="external") as guard:
        guard.migrate()

        @guard.projection("Enrolments", handles=["Enrolled"], **options)
        def enrolments(event: TaggedDecision, connection: Connection) -> None:
            connection.execute(text("SELECT 1"))
            if event.decision.course in failing:
                raise LookupError(event.decision.course)
            noted.append(f"{event.decision.student} in {event.decision.course}")

        yield guard, noted, failing


def test_events_are_tagged_decisions_in_the_order_of_their_positions() -> None:
    """As the library's own projections get them, and with their position; ids are positions."""
    with school() as application:
        enrol(application, "student-1", "course-1")
        (recorded,) = DCBApplicationSource(application, stream_of=by_tag("course-")).read(0, 10).events
        event = recorded.event
        assert isinstance(event, Tagged)
        assert event == TaggedDecision(["student-1", "course-1"], Enrolled("student-1", "course-1"), 1)
        said = recorded.record
        assert said is not None
        assert (said.event_id, said.event_type, said.stream_id) == ("1", "Enrolled", "course-1")


def test_one_poison_event_holds_the_stream_of_its_tag_alone() -> None:
    """By the tag that was chosen: others go on, and after the fix that stream is complete and in order."""
    with school() as application, following(application) as (guard, noted, failing):
        failing.add("course-1")
        for student in ("student-1", "student-2"):
            for course in ("course-1", "course-2"):
                enrol(application, student, course)
        guard.catch_up("Enrolments")
        assert noted == ["student-1 in course-2", "student-2 in course-2"]
        failing.clear()
        guard.worker().run_once()
        assert noted[2:] == ["student-1 in course-1", "student-2 in course-1"]


def test_an_event_of_several_streams_has_its_place_in_one_line_only() -> None:
    """It is never silently one of two streams': it fails where streams are kept apart, and is applied else."""
    for order, wanted in (("stream", 0), ("global", 1)):
        with school() as application, following(application, order=order) as (guard, noted, _):
            enrol(application, "student-1", "course-1", "course-2")
            guard.catch_up("Enrolments")
            assert len(noted) == wanted
            assert [failure.error_type for failure in guard.failures().items] == ["projection_guard.errors.EventError"][
                wanted:
            ]


def test_without_streams_all_events_are_one_line() -> None:
    """`stream_of=None`, and order="global": a failure holds what comes behind it, and nothing is out of order."""
    with school() as application, following(application, stream_of=None, order="global") as (guard, noted, failing):
        failing.add("course-1")
        enrol(application, "student-1", "course-1")
        enrol(application, "student-1", "course-2")
        guard.catch_up("Enrolments")
        assert noted == []
        failing.clear()
        guard.worker().run_once()
        guard.catch_up("Enrolments")
        assert noted == ["student-1 in course-1", "student-1 in course-2"]


def test_an_event_that_cannot_be_made_stops_no_other() -> None:
    """Its class is gone: it comes with what the log says of it, and with the error."""
    with school() as application:
        application.recorder.append([DCBEvent(type="tests.nothing:Gone", data=b"{}", tags=["course-1"])])
        enrol(application, "student-1", "course-1")
        gone, there = DCBApplicationSource(application, stream_of=by_tag("course-")).read(0, 10).events
        assert (gone.error is None, there.error) == (False, None)
        assert gone.record is not None
        assert (gone.record.event_type, gone.record.stream_id) == ("Gone", "course-1")


def test_an_application_without_a_mapper_gives_what_was_recorded() -> None:
    """Those who write to the recorder by themselves: its events, under the types that they were given."""
    with School() as application:
        stored = DCBEvent(type="student.enrolled", data=b"1", tags=["course-1"])
        application.recorder.append([stored])
        (recorded,) = DCBApplicationSource(application, stream_of=None).read(0, 10).events
        assert recorded.event == TaggedDecision(["course-1"], stored, 1)
        assert recorded.record is not None
        assert (recorded.record.event_type, recorded.record.stream_id) == ("student.enrolled", None)


class Elsewhere(DCBRecorder):
    """A recorder of somebody else."""

    def read(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def append(self, events: Sequence[DCBEvent], condition: Any = None) -> int:
        raise NotImplementedError

    def subscribe(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def test_recorders_of_others_are_refused() -> None:
    """Whether their holes are final is not known; nor is what `by_tag` was meant to say without a prefix."""
    with School() as application:
        application.recorder = Elsewhere()
        with pytest.raises(ConfigurationError, match="Elsewhere is no recorder of eventsourcing's"):
            DCBApplicationSource(application, stream_of=None)
    with pytest.raises(ConfigurationError, match="takes an eventsourcing DCBApplication"):
        DCBApplicationSource(cast("Any", object()), stream_of=None)
    with pytest.raises(ConfigurationError, match="by_tag takes"):
        by_tag("")
