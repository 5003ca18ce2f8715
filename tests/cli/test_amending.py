"""Commands that edit an event: what is shown to be edited, what is taken, and that the original is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli import shop
from tests.cli.conftest import Place
from tests.cli.test_acting import audited


def broken(place: Place, **more: object) -> str:
    """Let A#1 fail in Orders for what it holds, and A#2 wait; return the failure's id."""
    place.publish({**shop.event("A", 1), "amount": -1, **more}, shop.event("A", 2))
    (found,) = place.shell.bare("failures", "list", "--projection", "Orders", "--json").json["items"]
    return str(found["id"])


def edit(place: Place, text: str, **changes: object) -> Path:
    """Change what a command has shown, in a file."""
    path = place.shell.folder / "event.json"
    path.write_text(json.dumps({**json.loads(text), **changes}), encoding="utf-8")
    return path


def test_an_event_is_shown_edited_and_tried_again(place: Place) -> None:
    """Out of a file or from standard input; who did it is written down, and the failure says that it was amended."""
    shell = place.shell
    failure = broken(place)
    shown = shell.bare("failures", "payload", failure).out
    assert json.loads(shown)["amount"] == -1
    assert shell.bare("failures", "payload", failure, "--json").json["event_payload"] == json.loads(shown)
    still = edit(place, shown, amount=-2)
    again = shell.app("failures", "amend", failure, "--payload", "-", answers=still.read_text(), code=1)
    assert "A#1 of Orders failed again" in again.out
    assert json.loads(shell.app("failures", "payload", failure).out)["amount"] == -2
    path = edit(place, shown, amount=1)
    told = shell.app("failures", "amend", failure, "--payload", str(path), "--note", "a typo", "--json").json
    assert (told["outcome"], told["failure"]["resolution_method"]) == ("applied", "manual_retry")
    assert audited(place, "amend") == [("ada", "a typo"), ("ada", None)]
    detail = shell.bare("failures", "show", failure, "--payload", "--json").json
    assert (detail["amended"], detail["amended_by"], detail["event_payload"]["amount"]) == (True, "ada", -1)
    assert "amended by ada at " in shell.bare("failures", "show", failure).out
    assert place.value("SELECT count(*) FROM orders WHERE event_id = 'A#1'") == 1


def test_an_amendment_is_withdrawn_from_a_bare_database(place: Place) -> None:
    """It takes no handler; where there is none, that is said."""
    shell = place.shell
    failure = broken(place)
    path = edit(place, shell.bare("failures", "payload", failure).out, amount=-2)
    shell.app("failures", "amend", failure, "--payload", str(path), code=1)
    assert shell.bare("failures", "unamend", failure, "--actor", "bob").out == (
        "A#1 of Orders is given as the log has it again\n"
    )
    assert shell.bare("failures", "unamend", failure, "--json", code=1).json["withdrawn"] is False
    assert audited(place, "unamend") == [("bob", None)]
    assert shell.bare("failures", "show", failure, "--json").json["amended"] is False


def test_what_cannot_be_taken_is_refused_without_a_word_of_the_event(place: Place) -> None:
    """No JSON, no file, another event; and without handlers nothing can be tried."""
    shell = place.shell
    failure = broken(place)
    shown = shell.bare("failures", "payload", failure).out
    words = ("failures", "amend", failure, "--json", "--payload")
    for payload, answers in (("-", "canary {"), ("no such file", "")):
        refused = shell.app(*words, payload, answers=answers, code=2)
        assert refused.refusal["error"] == "wrong-usage"
        assert "canary" not in refused.err
    other: Any = shell.app(*words, str(edit(place, shown, stream_id="canary")), code=2)
    assert other.refusal["error"] == "invalid-argument"
    assert "its stream_id changed" in other.err
    assert "canary" not in other.err
    assert shell.bare(*words, str(edit(place, shown)), code=1).refusal["error"] == "needs-handlers"
    assert audited(place, "amend") == []


def test_an_event_that_cannot_be_shown_whole_is_not_shown_to_be_edited(place: Place) -> None:
    """A password in it would come back as stars."""
    failure = broken(place, link="https://ada:hunter22@example.org/")
    refused = place.shell.bare("failures", "payload", failure, "--json", code=1)
    assert refused.refusal["error"] == "payloads-hidden"
    assert "hunter22" not in refused.out + refused.err
