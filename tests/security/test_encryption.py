"""Events are kept encrypted, and whatever becomes of the keys, no event is lost in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import (
    CodecError,
    EncryptedCodec,
    JsonCodec,
    KeysUnavailable,
    Place,
    RetryPolicy,
    Sealed,
    StoreUnavailable,
)
from tests.bed import Bed, GuardOnBed
from tests.flow.acting import Planned, make_due, one_failure
from tests.following.logs import FollowedLog
from tests.security.keyring import SECRET, Keyring, Told, told

BY_HAND = RetryPolicy(wait=wait_fixed(3600), stop=stop_after_attempt(3), immediate=0)
PLACE = Place(projection="P", event_id="A#1", event_type="Told", stream_id="A")


def broken(bed: Bed, ring: Keyring | None, *, parked: int = 1, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Let A#1 fail in "P", with others behind it, in a guard that keeps events encrypted if it has keys."""
    codec = JsonCodec() if ring is None else EncryptedCodec(ring)
    guard, planned = bed.guard(codec=codec, retry=BY_HAND, **options), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined, handles=[Told])
    for n in range(1, parked + 2):
        guard.publish(told("A", n))
    return guard, planned


def with_keys(bed: Bed, ring: Keyring, planned: Planned, **options: Any) -> GuardOnBed:
    """Return the guard of a process that was started later."""
    planned.heal()
    guard = bed.guard(codec=EncryptedCodec(ring, **options), retry=BY_HAND)
    bed.joined(guard, "P", planned.joined, handles=[Told])
    return guard


def stored(bed: Bed) -> list[str]:
    """Return what stands where events are kept."""
    rows = bed.rows(
        "SELECT CAST(event_payload AS text) AS kept FROM projection_failures "
        "UNION ALL SELECT CAST(event_payload AS text) FROM projection_parked_events"
    )
    return [row.kept for row in rows]


def test_kept_events_are_encrypted_and_heal_in_order(bed: Bed) -> None:
    """The failed one and those that wait; ids stay readable, and a person who may is shown the rest."""
    guard, planned = broken(bed, Keyring("k1"))
    kept = stored(bed)
    assert len(kept) == 2
    assert all(SECRET not in each and json.loads(each)["key"] == "k1" for each in kept)
    failure = one_failure(guard)
    assert guard.codec.plain_of(failure)["data"]["secret"] == SECRET
    assert guard.codec.plain_of(guard.parked("P").items[0])["data"]["n"] == 2
    planned.heal()
    assert guard.resolve(failure.id, "retry", actor="alice").status == "applied"
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2)]


@pytest.mark.parametrize("before", ["plain", "another key"])
def test_rows_from_before_heal_with_the_keys_of_now(sqlite_bed: Bed, before: str) -> None:
    """Encryption may be switched on, and its key changed, while events wait."""
    ring = Keyring("k1")
    _, planned = broken(sqlite_bed, None if before == "plain" else ring)
    ring.keys |= Keyring("k2").keys
    ring.current = "k2"
    guard = with_keys(sqlite_bed, ring, planned)
    guard.publish(told("A", 3))
    assert [json.loads(each).get("key") for each in stored(sqlite_bed)] == (
        [None, None, "k2"] if before == "plain" else ["k1", "k1", "k2"]
    )
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert sqlite_bed.effects("P") == [("A", 1), ("A", 2), ("A", 3)]


@pytest.mark.parametrize("loss", ["gone", "another one of its name"])
def test_an_event_whose_key_is_missing_waits_and_heals_with_it(bed: Bed, loss: str) -> None:
    """The failure names the key; nothing is lost, and nothing overtakes it."""
    ring = Keyring("k1")
    _, planned = broken(bed, ring)
    guard = with_keys(bed, Keyring("k2") if loss == "gone" else Keyring("k1"), planned)
    failure = one_failure(guard)
    assert guard.resolve(failure.id, "retry", actor="alice").status == "failed"
    guard.work()
    failure = one_failure(guard)
    assert failure.is_exhausted
    assert "encrypted with the key 'k1', which does not open it" in failure.error_message
    assert bed.effects("P") == []
    assert len(stored(bed)) == 2
    guard = with_keys(bed, ring, planned)
    assert guard.resolve(failure.id, "retry", actor="alice").status == "applied"
    guard.work()
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_a_row_that_was_exchanged_for_another_one_does_not_open(sqlite_bed: Bed) -> None:
    """What was encrypted for one event, stream or projection says nothing in the place of another."""
    guard, planned = broken(sqlite_bed, Keyring("k1"))
    sqlite_bed.change(
        "UPDATE projection_failures SET event_payload = (SELECT event_payload FROM projection_parked_events)"
    )
    planned.heal()
    assert guard.resolve(one_failure(guard).id, "retry", actor="alice").status == "failed"
    assert "or the record was changed" in one_failure(guard).error_message
    assert sqlite_bed.effects("P") == []


def test_a_plain_row_that_somebody_slipped_in_can_be_refused(sqlite_bed: Bed) -> None:
    """Once all rows are encrypted, `accepts_plain=False` says so."""
    _, planned = broken(sqlite_bed, None)
    guard = with_keys(sqlite_bed, Keyring("k1"), planned, accepts_plain=False)
    assert guard.resolve(one_failure(guard).id, "retry", actor="alice").status == "failed"
    assert "accepts_plain=False refuses" in one_failure(guard).error_message


def test_a_shredded_stream_ends_in_failures_that_a_person_skips(bed: Bed) -> None:
    """The key of one stream is deleted: its events can no longer be read, and every other stream goes on."""
    ring = Keyring(per_stream=True)
    guard, planned = broken(bed, ring)
    planned.failing.add("B#1")
    guard.publish(told("B", 1))
    planned.heal()
    del ring.keys["stream A"]
    failures = {failure.event_id: failure for failure in guard.failures("P").items}
    assert guard.resolve(failures["A#1"].id, "retry", actor="alice").status == "failed"
    assert guard.resolve(failures["B#1"].id, "retry", actor="alice").status == "applied"
    guard.resolve(failures["A#1"].id, "skip", actor="alice", note="erased on request")
    guard.work()
    failure = one_failure(guard)
    assert (failure.event_id, failure.is_exhausted) == ("A#2", True)
    assert "'stream A'" in failure.error_message
    guard.resolve(failure.id, "skip", actor="alice", note="erased on request")
    guard.work()
    guard.publish(told("A", 3))
    assert bed.effects("P") == [("B", 1), ("A", 3)]
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_keys_out_of_reach_are_an_outage_and_use_up_nothing(blocking_bed: Bed, kind: str) -> None:
    """What cannot be kept is not taken: `publish` says so. What is on record is tried again once they are back."""
    bed, ring = blocking_bed, Keyring("k1")
    guard, planned = bed.guard(codec=EncryptedCodec(ring), retry=BY_HAND), Planned("P", "A#1")
    planned.register(bed, guard, kind, handles=[Told])
    ring.is_reachable = False
    with pytest.raises(StoreUnavailable, match="keys of its encryption cannot be reached"):
        guard.publish(told("A", 1))
    assert guard.failures("P").items == ()
    ring.is_reachable = True
    if kind == "apart":  # its lease ends by itself
        bed.change("UPDATE projection_streams SET lease_expires_at = :past", past="2001-01-01 00:00:00.000000")
    guard.publish(told("A", 1))
    before = one_failure(guard)
    ring.is_reachable = False
    with pytest.raises(StoreUnavailable):
        guard.publish(told("A", 2))
    with pytest.raises(StoreUnavailable):
        guard.resolve(before.id, "retry", actor="alice")
    after = one_failure(guard)
    assert (after.retry_count, after.is_exhausted, after.lease_owner) == (before.retry_count, False, None)
    ring.is_reachable = True
    planned.heal()
    assert guard.resolve(before.id, "retry", actor="alice").status == "applied"
    assert guard.publish(told("A", 2))[0].status == "applied"


@pytest.mark.parametrize("waits", ["failed", "parked"])
def test_a_key_out_of_reach_holds_up_its_own_stream_only(bed: Bed, waits: str) -> None:
    """What other keys open heals meanwhile, and the log says what is the matter: nobody looks for a sick database."""
    ring, failing = Keyring(per_stream=True), {f"{stream}#1" for stream in "ABC"}
    guard, planned = bed.guard(codec=EncryptedCodec(ring)), Planned("P", *(failing if waits == "failed" else ()))
    bed.joined(guard, "P", planned.joined, handles=[Told])
    if waits == "parked":
        guard.pause("P", actor="alice")
    for stream in "ABC":
        guard.publish(told(stream, 1))
    if waits == "parked":
        guard.resume("P", actor="alice")
    planned.heal()
    ring.away.add("stream A")
    with pytest.raises(KeysUnavailable, match="keys of its encryption cannot be reached"):
        guard.work()
    assert bed.effects("P") == [("B", 1), ("C", 1)]
    ring.away.clear()
    make_due(bed)
    guard.work()
    assert bed.effects("P") == [("B", 1), ("C", 1), ("A", 1)]


def test_the_worker_says_that_keys_cannot_be_reached(blocking_bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """In the log: the rows stay as they were."""
    bed, ring = blocking_bed, Keyring("k1")
    guard, planned = bed.guard(codec=EncryptedCodec(ring)), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined, handles=[Told])
    guard.publish(told("A", 1))
    ring.is_reachable = False
    with guard.real.worker(poll_seconds=0.05):
        bed.wait_until(lambda: "keys of its encryption cannot be reached" in caplog.text)
    failure = one_failure(guard)
    assert (failure.retry_count, failure.is_exhausted, failure.lease_owner) == (0, False, None)


def test_a_followed_event_heals_from_its_log_whatever_becomes_of_the_keys(blocking_bed: Bed) -> None:
    """What is kept of it is encrypted all the same."""
    bed, ring = blocking_bed, Keyring("k1")
    log, planned = FollowedLog(bed), Planned("P", "A#1")
    guard = log.guard(
        log.source(decode=lambda row: told(str(row["stream_id"]), int(str(row["n"])))), codec=EncryptedCodec(ring)
    )
    bed.apart(guard, "P", planned.apart, handles=[Told])
    log.append("A", "A")
    guard.catch_up("P")
    (kept, *_) = stored(bed)
    assert json.loads(kept)["key"] == "k1"
    ring.keys.clear()
    planned.heal()
    guard.resolve(one_failure(guard).id, "retry", actor="alice")
    guard.work()
    assert planned.done == [("A", 1), ("A", 2)]


def test_a_guard_without_the_codec_says_that_what_is_stored_is_encrypted() -> None:
    """Instead of taking it for an event."""
    stored = EncryptedCodec(Keyring("k1")).encode_at({"a": 1}, PLACE)
    with pytest.raises(CodecError, match="is encrypted; give the guard an EncryptedCodec"):
        JsonCodec().decode(stored)


@pytest.mark.parametrize("stored", [{"$sealed": "?", "key": "k1"}, {"$sealed": None}, {"$sealed": "AAAA", "key": {}}])
def test_a_broken_envelope_is_a_codec_error(stored: Any) -> None:
    """Never another one."""
    with pytest.raises(CodecError, match="does not open it"):
        EncryptedCodec(Keyring("k1")).decode_at(stored, PLACE)


def test_neither_a_key_nor_what_it_hides_is_shown_by_repr_or_errors() -> None:
    """Of the codec, of what it stores, and of what a cipher refuses."""

    class Refusing:
        def encrypt(self, plain: bytes, place: Place) -> Sealed:
            raise ValueError(plain)

        def decrypt(self, sealed: Sealed, place: Place) -> bytes:
            raise ValueError(sealed.data)

    codec = EncryptedCodec(Refusing())
    with pytest.raises(CodecError) as refused:
        codec.encode_at({"secret": SECRET}, PLACE)
    assert SECRET not in str(refused.value) + repr(codec) + repr(Sealed(key_id="k1", data=SECRET.encode()))
