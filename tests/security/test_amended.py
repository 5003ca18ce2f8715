"""Amended events are kept encrypted as others are, both of them; who may see them is shown the plain text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tenacity import wait_fixed

from projection_guard import CodecError, EncryptedCodec, InvalidArgument, KeysUnavailable, RetryPolicy
from tests.bed import Bed, GuardOnBed
from tests.flow.acting import Planned, make_due, one_failure, snapshot, work_until_done
from tests.security.keyring import SECRET, Keyring, Told, told

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)
AMENDED = "canary-of-an-amended-event-4712"


def broken(bed: Bed, ring: Keyring, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Let A#1 fail in "P", with A#2 behind it, in a guard that keeps events encrypted."""
    guard, planned = bed.guard(codec=EncryptedCodec(ring, **options), retry=LATER), Planned("P", "A#1")
    bed.joined(guard, "P", planned.joined, handles=[Told])
    for n in (1, 2):
        guard.publish(told("A", n))
    return guard, planned


def edited(guard: GuardOnBed) -> Any:
    """Return the event as an operator edits it, with another secret in it."""
    payload = json.loads(guard.editable_payload(one_failure(guard).id))
    assert payload["data"]["secret"] in (SECRET, AMENDED)
    payload["data"]["secret"] = AMENDED
    return payload


@pytest.mark.parametrize("accepts_plain", [True, False])
def test_an_amended_event_is_kept_encrypted(bed: Bed, accepts_plain: bool) -> None:
    """What is stored of it names the key and holds the ciphertext; the retries open it."""
    guard, planned = broken(bed, Keyring("k1"), accepts_plain=accepts_plain)
    failure = one_failure(guard)
    assert guard.amend(failure.id, edited(guard), actor="alice").status == "failed"
    rows = bed.rows("SELECT * FROM projection_amendments")
    assert len(rows) == 1
    assert AMENDED not in repr(rows)
    assert SECRET not in repr(rows)
    amendment = guard.amendment(failure.id)
    assert amendment.event_payload.keys() == amendment.original_payload.keys() == {"$sealed", "key"}
    assert guard.codec.plain_of(amendment)["data"]["secret"] == AMENDED
    planned.heal()
    seen: list[str] = []
    note: Any = lambda event, _: seen.append(event.secret)  # noqa: E731
    planned._note = note
    make_due(bed)
    work_until_done(bed, guard)
    assert seen == [AMENDED, SECRET]


def test_no_word_of_it_is_told_where_it_is_refused(sqlite_bed: Bed) -> None:
    """Neither of the original, nor of the amended one."""
    guard, _ = broken(sqlite_bed, Keyring("k1"))
    failure, payload, before = one_failure(guard), edited(guard), snapshot(sqlite_bed)
    payload["data"]["stream_id"] = "B"
    with pytest.raises(InvalidArgument) as refused:
        guard.amend(failure.id, payload, actor="alice")
    assert AMENDED not in repr(refused.value)
    assert SECRET not in repr(refused.value)
    assert snapshot(sqlite_bed) == before


def test_a_key_out_of_reach_is_no_reason_to_write_anything(sqlite_bed: Bed) -> None:
    """It is asked for again later; where the key is gone, the event can still be written anew."""
    ring = Keyring("k1")
    guard, planned = broken(sqlite_bed, ring)
    failure, payload, before = one_failure(guard), edited(guard), snapshot(sqlite_bed)
    ring.is_reachable = False
    with pytest.raises(KeysUnavailable):
        guard.amend(failure.id, payload, actor="alice")
    with pytest.raises(KeysUnavailable):
        guard.editable_payload(failure.id)
    assert snapshot(sqlite_bed) == before
    ring.is_reachable = True
    ring.keys = Keyring("k2").keys
    ring.current = "k2"
    with pytest.raises(CodecError, match="'k1'"):
        guard.editable_payload(failure.id)
    planned.heal()
    assert guard.amend(failure.id, payload, actor="alice").status == "applied"
