"""Codecs that break the contract, each in one way, and the conformance tests that have to find it out."""

from __future__ import annotations

import importlib
import os
import pickle
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, cast

from projection_guard import CodecError, EventCodec
from projection_guard.testing.codec_conformance import CodecConformance

__all__ = ["WRONG", "Noted", "Wrong", "plain_codec"]

DEEPEST = 120


@dataclass(frozen=True, slots=True)
class Noted:
    """An event that holds anything."""

    event_id: str
    note: object


class Plain:
    """A good codec for `Noted`, with steps that the wrong ones spoil."""

    def encode(self, event: object) -> Any:
        if type(event) is not Noted:
            raise CodecError(f"this codec knows no {type(event).__name__}")
        return {"type": self.name(event), "id": event.event_id, "note": self.note(event.note)}

    def name(self, event: Noted) -> str:
        return type(event).__name__

    def note(self, note: object, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise CodecError("an event is nested too deep")
        if isinstance(note, str):
            return self.text(note)
        if isinstance(note, list):
            return [self.note(item, depth + 1) for item in note]
        if isinstance(note, dict):
            return {key: self.note(item, depth + 1) for key, item in note.items()}
        return note

    def text(self, text: str) -> Any:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise CodecError("an event holds a text that no database takes")
        return text

    def decode(self, data: Any) -> object:
        if not isinstance(data, dict) or data.keys() != {"type", "id", "note"}:
            raise CodecError("this is no event")
        return self.kind(data["type"])(data["id"], self.back(data["note"]))

    def kind(self, name: Any) -> Any:
        if name != "Noted":
            raise CodecError("the class is not known")
        return Noted

    def back(self, note: Any) -> object:
        return note


def plain_codec() -> EventCodec:
    """Return the good one."""
    return Plain()


class Wrong(CodecConformance):
    """The suite of an author whose codec is wrong; `fails` names the tests that say so, without their `test_`."""

    Codec: ClassVar[type[Any]]
    fails: ClassVar[tuple[str, ...]]

    def codec(self) -> EventCodec:
        return cast("EventCodec", self.Codec())

    def events(self) -> Sequence[object]:
        return [Noted("1", "text"), Noted("2", [1, {"key": "value"}])]

    def event_with(self, value: object) -> object:
        return Noted("1", value)


class WithoutDecode(Wrong):
    class Codec:
        encode = Plain.encode

    fails = ("it_is_a_codec_by_its_methods",)


class Async(Wrong):
    class Codec(Plain):
        def encode(self, event: object) -> Any:
            class Later:
                def __await__(self) -> None: ...

            return Later()

    fails = ("it_is_a_codec_by_its_methods",)


class LosesTheNote(Wrong):
    class Codec(Plain):
        def back(self, note: Any) -> object:
            return None

    fails = ("an_equal_event_comes_back", "a_large_event_comes_back", "any_text_comes_back")


class GivesADict(Wrong):
    class Codec(Plain):
        def kind(self, name: Any) -> Any:
            super().kind(name)
            return lambda event_id, note: {"event_id": event_id, "note": note}

    fails = ("an_equal_event_comes_back",)


class GivesTuples(Wrong):
    class Codec(Plain):
        def note(self, note: object, depth: int = 0) -> Any:
            return tuple(note) if isinstance(note, list) else super().note(note, depth)

    fails = ("what_is_stored_is_json",)


class LetsNulThrough(Wrong):
    class Codec(Plain):
        def text(self, text: str) -> Any:
            return text

    fails = ("any_text_comes_back",)


class CutsTexts(Wrong):
    class Codec(Plain):
        def text(self, text: str) -> Any:
            return super().text(text)[:255]

    fails = ("a_large_event_comes_back",)


class StripsTexts(Wrong):
    class Codec(Plain):
        def text(self, text: str) -> Any:
            return super().text(text).encode("ascii", "ignore").decode()

    fails = ("any_text_comes_back",)


class Numbers(Wrong):
    """Each encoding has another number in it."""

    numbers = count()

    class Codec(Plain):
        def encode(self, event: object) -> Any:
            return {**super().encode(event), "number": next(Numbers.numbers)}

        def decode(self, data: Any) -> object:
            return super().decode({name: value for name, value in data.items() if name != "number"})

    fails = ("encoding_again_gives_the_same",)


class ChangesTheEvent(Wrong):
    class Codec(Plain):
        def note(self, note: object, depth: int = 0) -> Any:
            if isinstance(note, list):
                note.append("seen")
            return super().note(note, depth)

    fails = ("neither_side_is_changed",)


class TakesApartWhatIsStored(Wrong):
    class Codec(Plain):
        def decode(self, data: Any) -> object:
            event = super().decode(data)
            data.pop("note")
            return event

    fails = ("neither_side_is_changed",)


class RemembersEvents(Wrong):
    """The note stays in the object; what is stored is a number."""

    class Codec(Plain):
        def __init__(self) -> None:
            self.notes: list[object] = []

        def note(self, note: object, depth: int = 0) -> Any:
            self.notes.append(note)
            return len(self.notes) - 1

        def back(self, note: Any) -> object:
            try:
                return self.notes[note]
            except (IndexError, TypeError):
                return None

    fails = ("another_object_reads_it",)


class RemembersInTheProcess(Wrong):
    class Codec(Plain):
        notes: ClassVar[dict[str, object]] = {}

        def note(self, note: object, depth: int = 0) -> Any:
            key = f"{os.getpid()}-{note!r}"
            self.notes[key] = note
            return key

        def back(self, note: Any) -> object:
            return self.notes.get(note)

    fails = ("another_process_reads_it",)


class OneAtATime(Wrong):
    """What is being decoded is kept in the object, where another thread finds it."""

    class Codec(Plain):
        def decode(self, data: Any) -> object:
            event = super().decode(data)
            self.under_way = event
            for _ in range(20_000):
                pass
            return self.under_way

    def events(self) -> Sequence[object]:
        return [Noted(str(number), "text") for number in range(10)]

    fails = ("threads_do_not_disturb_each_other",)


class TakesAnyName(Wrong):
    class Codec(Plain):
        def kind(self, name: Any) -> Any:
            return Noted

    fails = ("unknown_names_are_refused",)


class ImportsByName(Wrong):
    class Codec(Plain):
        def name(self, event: Noted) -> str:
            return f"{type(event).__module__}.{type(event).__qualname__}"

        def kind(self, name: Any) -> Any:
            module, _, kind = str(name).rpartition(".")
            try:
                found = getattr(importlib.import_module(module), kind)
            except (ImportError, AttributeError, ValueError) as error:
                raise CodecError("no such class") from error
            if found is not Noted:
                raise CodecError("no event")
            return found

    fails = ("nothing_is_imported",)


class RaisesKeyError(Wrong):
    class Codec(Plain):
        def decode(self, data: Any) -> object:
            return self.kind(data["type"])(data["id"], data["note"])

    fails = ("spoilt_json_is_refused",)


class FollowsAnyDepth(Wrong):
    class Codec(Plain):
        def note(self, note: object, depth: int = 0) -> Any:
            return super().note(note, 0)

        def decode(self, data: Any) -> object:
            self.look(data)
            return super().decode(data)

        def look(self, data: Any) -> None:
            for item in data if isinstance(data, list) else ():
                self.look(item)

    fails = ("a_deep_event_comes_back_or_is_refused", "deep_json_is_refused")


class Pickles(Wrong):
    """A strange value is pickled, or at least turned into a text."""

    class Codec(Plain):
        def encode(self, event: object) -> Any:
            try:
                return b64encode(pickle.dumps(event)).decode()
            except Exception:
                return repr(event)

        def decode(self, data: Any) -> object:
            return pickle.loads(b64decode(data))

    fails = ("what_has_no_way_back_is_refused", "spoilt_json_is_refused")


class TellsTheValue(Wrong):
    class Codec(Plain):
        def encode(self, event: object) -> Any:
            if type(event) is not Noted:
                raise CodecError(f"cannot encode {event!r}")
            return super().encode(event)

    fails = ("what_has_no_way_back_is_refused",)


class RaisesTypeError(Wrong):
    class Codec(Plain):
        def encode(self, event: object) -> Any:
            if type(event) is not Noted:
                raise TypeError("not JSON serializable")
            return super().encode(event)

    fails = ("what_has_no_way_back_is_refused",)


WRONG: list[type[Wrong]] = Wrong.__subclasses__()
