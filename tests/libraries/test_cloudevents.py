"""CloudEvents of both APIs of the SDK: read without configuration, stored, and healed by another process.

What is tested here is the SDK that is installed, 2.x: its own API, and the older one that it keeps as `cloudevents.v1`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

pytest.importorskip("cloudevents", reason="the CloudEvents SDK is not installed: extra cloudevents")

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v03.event import CloudEvent as CloudEvent03
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as HttpCloudEvent
from cloudevents.v1.pydantic import CloudEvent as PydanticCloudEvent

from projection_guard import CodecError, EventError, EventMapping, JsonCodec, cloudevents
from tests.bed import Bed, GuardOnBed
from tests.libraries.hundred import SCRIPT, heals_in_order

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Make = Callable[..., Any]


def core(data: Any = None, **attributes: Any) -> CloudEvent:
    """Make one of the 2.x API."""
    return CloudEvent({"type": "com.paid", "source": "/shop", "time": TIME, **attributes}, data)


def core03(data: Any = None, **attributes: Any) -> CloudEvent03:
    """Make one of the 2.x API, of the older specification."""
    return CloudEvent03({"specversion": "0.3", "type": "com.paid", "source": "/shop", "time": TIME, **attributes}, data)


def http(data: Any = None, **attributes: Any) -> HttpCloudEvent:
    """Make one of the 1.x API; its time is text."""
    return HttpCloudEvent({"type": "com.paid", "source": "/shop", "time": "2026-01-02T03:04:05Z", **attributes}, data)


def pydantic(data: Any = None, **attributes: Any) -> Any:
    """Make a model of the 1.x API."""
    return PydanticCloudEvent({"type": "com.paid", "source": "/shop", "time": TIME, **attributes}, data)


def structured(data: Any = None, **attributes: Any) -> dict[str, Any]:
    """Make what a structured message says, as a dict."""
    time = "2026-01-02T03:04:05Z"
    return {"specversion": "1.0", "type": "com.paid", "source": "/shop", "time": time, "data": data, **attributes}


KINDS = [core, core03, http, pydantic]
each_kind = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)


def parts(event: Any) -> tuple[object, ...]:
    """Return all that there is of an event: those of the 2.x API are equal to nothing but themselves."""
    return type(event), dict(event.get_attributes()), event.get_data()


@pytest.mark.parametrize("make", [*KINDS, structured], ids=lambda make: make.__name__)
def test_an_event_is_read_without_configuration(make: Make) -> None:
    """Whatever the first one of its class had: attributes come and go from event to event."""
    mapping = EventMapping()
    plain = mapping.read(make(id="1"))
    assert (plain.event_id, plain.event_type, plain.stream_id) == ("/shop 1", "com.paid", None)
    assert (plain.occurred_at, plain.sequence, plain.stream_version) == (TIME, None, None)
    assert mapping.read(make(id="2", subject="cart-7")).stream_id == "cart-7"
    assert mapping.read(make(id="3", subject="cart-7", partitionkey="ann", sequence="00012")).stream_id == "ann"
    assert mapping.read(make(id="3", partitionkey="ann")).sequence is None


@each_kind
def test_an_id_is_of_its_source(make: Make) -> None:
    """Two producers may both have an event 1: taken for a duplicate, the second one would be lost."""
    first, second = (EventMapping().read(make(id="1", source=source)).event_id for source in ("/shop", "/bank"))
    assert (first, second) == ("/shop 1", "/bank 1")
    long, other = ("/" + letter * 300 for letter in "ab")
    named = {EventMapping().read(make(id="1", source=source)).event_id for source in (long, other)}
    assert len(named) == 2
    assert all(len(each) < 100 and each.endswith(" 1") for each in named)


def test_an_event_that_has_lost_its_id_is_refused() -> None:
    """Also where one of its class was read before."""
    mapping, event = EventMapping(), http(id="1")
    mapping.read(event)
    del event["id"]
    with pytest.raises(EventError, match="has no event_id"):
        mapping.read(event)


@each_kind
@pytest.mark.parametrize("data", [None, {"amount": 5, "of": [1, None]}, "text", b"\x00\xff"], ids=repr)
def test_an_event_comes_back(make: Make, data: object) -> None:
    """Of the same class, equal in its attributes and data, by another process's codec."""
    codecs = JsonCodec(), JsonCodec()
    for codec in codecs:
        cloudevents.register(codec)
    event = make(data, id="1", subject="s", partitionkey="p", retries=3, urgent=True)
    back = codecs[1].decode(codecs[0].encode(event))
    assert parts(back) == parts(event)
    assert EventMapping().read(back) == EventMapping().read(event)


def test_an_event_that_was_received_comes_back() -> None:
    """The SDK reads its time with dateutil, whose zones no database knows; a model's is read by Pydantic."""
    codec = JsonCodec()
    cloudevents.register(codec)
    zone = timezone(timedelta(hours=5, minutes=30))
    for event in (
        arrived(core({"n": 1}, time=TIME.astimezone(zone))),
        pydantic({"n": 1}, time="2026-01-02T03:04:05+05:30"),
    ):
        back = codec.decode(codec.encode(event))
        assert parts(back) == parts(event)
        assert EventMapping().read(back) == EventMapping().read(event)


@pytest.mark.parametrize("make", [core, http])
def test_what_was_taken_from_an_event_is_not_added_again(make: Make) -> None:
    """The SDK's constructors make up a time for an event without one."""
    codec = JsonCodec()
    cloudevents.register(codec)
    event = make(id="1")
    del (event if make is http else event.get_attributes())["time"]
    assert parts(codec.decode(codec.encode(event))) == parts(event)


def test_what_version_1_stored_comes_back() -> None:
    """Stored under cloudevents 1.12.0 and this library: an event of `cloudevents.http`, and one of its models."""
    codec = JsonCodec()
    cloudevents.register(codec)
    attributes = {"type": "com.paid", "source": "/shop", "partitionkey": "ann", "specversion": "1.0", "id": "1"}
    attributes |= {"time": "2026-11-26T12:41:56.954358+00:00"}
    stored: Any = {"$class": "cloudevents.http.CloudEvent", "data": {"attributes": attributes, "data": {"n": 1}}}
    assert codec.decode(stored) == HttpCloudEvent(attributes, {"n": 1})
    fields: dict[str, Any] = {
        "source": "/shop",
        "id": "1",
        "type": "com.paid",
        "specversion": {"$enum": ["SpecVersion", "v1_0"]},
    }
    fields |= {"time": None, "subject": None, "datacontenttype": None, "dataschema": None, "data": {"n": 1}}
    fields |= {"$extra": {"partitionkey": "ann"}, "$set": ["data", "partitionkey", "source", "time", "type"]}
    model: Any = {"$class": "cloudevents.pydantic.CloudEvent", "data": fields}
    back = codec.decode(model)
    assert isinstance(back, PydanticCloudEvent)
    assert (back.id, back["partitionkey"], back.data) == ("1", "ann", {"n": 1})


class Paid(CloudEvent):
    """An event of the application's own."""


def test_subclasses_are_registered_by_name() -> None:
    """And others refused; so is a codec that cannot be told of classes."""
    codec = JsonCodec()
    cloudevents.register(codec, Paid)
    event = Paid({"type": "com.paid", "source": "/shop"}, {"n": 1})
    assert parts(codec.decode(codec.encode(event))) == parts(event)
    with pytest.raises(CodecError, match="int is no CloudEvent"):
        cloudevents.register(codec, int)
    with pytest.raises(CodecError, match="has no register"):
        cloudevents.register(object())


def arrived(event: CloudEvent) -> CloudEvent:
    """Return the event as an HTTP endpoint gets it."""
    sent: HTTPMessage = to_structured_event(event, JSONFormat())
    received = from_structured_event(sent)
    assert isinstance(received, CloudEvent)
    return received


def test_one_poison_event_of_a_hundred_streams(sqlite_bed: Bed) -> None:
    """They are published as they arrive; what failed is stored, and healed by a guard that has not seen it before."""
    kind: type = HttpCloudEvent if sqlite_bed.is_async else CloudEvent
    make = core if kind is CloudEvent else http
    events: list[Any] = [make({"n": n}, id=f"{stream}#{n}", subject=stream) for stream, n in SCRIPT]
    if kind is CloudEvent:
        events = [arrived(event) for event in events if isinstance(event, CloudEvent)]

    def guard_of() -> GuardOnBed:
        guard = sqlite_bed.guard()
        cloudevents.register(guard.codec)
        return guard

    def publish_all(guard: GuardOnBed) -> None:
        for event in events:
            guard.publish(event)

    heals_in_order(
        sqlite_bed,
        guard_of,
        deliver=publish_all,
        read=lambda event: (event.get_attributes()["subject"], event.get_data()["n"]),
        handles=[kind],
    )
