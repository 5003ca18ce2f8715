"""Anything in any order, against a small model: publish, fail, heal, retry, resolve, pause, reset, crash, redeliver.

The model knows a dozen lines of rules and nothing of the library; after each step everything that is on record has to
be what it says (P1, P2, P3, P5, P6). A crash here is an exception that nobody catches in the middle of a handler, and a
new guard; processes that are really killed are in `tests/faults`. `PROJECTION_GUARD_EXAMPLES` sets how many histories
are tried on each bed, at random then instead of always the same.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, text
from tenacity import stop_never, wait_fixed

from projection_guard import FailureBusy, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import active_equals_open_rows, listed, make_due, states_of

State = Literal["applied", "failed", "parked", "skipped", "fixed"]
PATIENT = RetryPolicy(wait=wait_fixed(3600), stop=stop_never, breaker=None)
EXAMPLES = int(os.environ.get("PROJECTION_GUARD_EXAMPLES", "0"))
numbers = itertools.count(1)


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Model:
    """What one projection is to have done: the events of each line of those that wait, in the order of their arrival.

    A line is a stream, each event by itself (order "none"), or everything (order "global").
    """

    order: str = "stream"
    poison: set[str] = field(default_factory=set)
    lines: dict[str, list[Happened]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    effects: list[tuple[str, int]] = field(default_factory=list)
    is_paused: bool = False
    failures: int = 0
    checkpoint: int | None = None

    def deliver(self, event: Happened) -> None:
        """An event arrives, perhaps again."""
        if event.event_id in self.states:
            return
        line = self.lines.setdefault({"none": event.event_id, "global": ""}.get(self.order, event.stream_id), [])
        waits = self.is_paused or any(self.states[other.event_id] in ("failed", "parked") for other in line)
        line.append(event)
        self.checkpoint = max(self.checkpoint or 0, event.sequence or 0)
        if waits:
            self.states[event.event_id] = "parked"
        else:
            self.attempt(event)

    def attempt(self, event: Happened) -> None:
        """Its handler is called."""
        if event.event_id in self.poison:
            self.failures += self.states.get(event.event_id) != "failed"
            self.states[event.event_id] = "failed"
        else:
            self.states[event.event_id] = "applied"
            self.effects.append((event.stream_id, event.n))

    def work(self, *, is_due: bool) -> None:
        """A worker's round: what failed is tried once if it is due, then what waits behind it is applied in order."""
        if self.is_paused:
            return
        for line in self.lines.values():
            for event in line:
                if (self.states[event.event_id] == "failed" and is_due) or self.states[event.event_id] == "parked":
                    self.attempt(event)
                if self.states[event.event_id] == "failed":
                    break

    def forget(self) -> None:
        """A reset."""
        self.lines, self.states, self.effects, self.checkpoint = {}, {}, [], None

    def assert_effects(self, found: list[tuple[str, int]]) -> None:
        """Each event once, in the order that is promised (P2, P3)."""
        match self.order:
            case "global":
                assert found == self.effects
            case "none":
                assert sorted(found) == sorted(self.effects)
            case _:
                for stream in "AB":
                    assert [each for each in found if each[0] == stream] == [e for e in self.effects if e[0] == stream]


class Machine(RuleBasedStateMachine):
    """One history of two projections, joined and apart, that are told the same events."""

    bed: ClassVar[Bed]

    @initialize(order=st.sampled_from(["stream", "stream", "none", "global"]))
    def begin(self, order: str) -> None:
        """Start with a guard, two new projections and no events."""
        number = next(numbers)
        self.order = order
        self.names = {"joined": f"J{number}", "apart": f"X{number}"}
        self.models = {kind: Model(order=order) for kind in self.names}
        self.done: list[tuple[str, int]] = []
        self.published: list[Happened] = []
        self.dies_at: str | None = None
        self.guard = self.new_guard()

    def new_guard(self) -> GuardOnBed:
        """Make a guard as the next process would."""
        guard, joined, apart = (
            self.bed.guard(retry=PATIENT, order=self.order),
            self.names["joined"],
            self.names["apart"],
        )
        note = listed(joined)

        def fails(kind: str, event: Happened) -> None:
            if self.dies_at == event.event_id:
                raise Killed
            if event.event_id in self.models[kind].poison:
                raise ValueError("planned")

        def joined_body(event: Happened, connection: Connection) -> None:
            note(event, connection)
            fails("joined", event)

        def apart_body(event: Happened) -> None:
            fails("apart", event)
            self.done.append((event.stream_id, event.n))

        def clear(connection: Connection) -> None:
            connection.execute(text("DELETE FROM effects WHERE projection = :name"), {"name": joined})

        async def async_clear(connection: Any) -> None:
            await connection.run_sync(clear)

        def forget(_: object) -> None:
            self.done.clear()

        async def async_forget(_: object) -> None:
            self.done.clear()

        is_async = self.bed.is_async
        self.bed.joined(guard, joined, joined_body, on_reset=async_clear if is_async else clear)
        self.bed.apart(guard, apart, apart_body, on_reset=async_forget if is_async else forget)
        return guard

    # -- what may happen

    @rule(stream=st.sampled_from("AB"), fails_in=st.sets(st.sampled_from(["joined", "apart"])))
    def publish(self, stream: str, fails_in: set[str]) -> None:
        """The next event of a stream."""
        n = 1 + sum(event.stream_id == stream for event in self.published)
        event = happened(stream, n, sequence=len(self.published) + 1)
        self.published.append(event)
        for kind in fails_in:
            self.models[kind].poison.add(event.event_id)
        self.deliver(event)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        """One of the events so far comes again."""
        self.deliver(data.draw(st.sampled_from(self.published)))

    def deliver(self, event: Happened) -> None:
        """Publish, and compare what became of it."""
        known = {kind: model.states.get(event.event_id) for kind, model in self.models.items()}
        outcomes = {outcome.projection: outcome.status.value for outcome in self.guard.publish(event)}
        for kind, model in self.models.items():
            model.deliver(event)
            state = model.states[event.event_id]
            told = "duplicate" if known[kind] in ("applied", "skipped", "fixed") else state
            assert outcomes[self.names[kind]] == told, (kind, outcomes, known)

    @rule(stream=st.sampled_from("AB"), kind=st.sampled_from(["joined", "apart"]))
    def crash(self, stream: str, kind: str) -> None:
        """The process dies in the handler of a stream's next event, which nobody has taken then; another one starts."""
        n = 1 + sum(event.stream_id == stream for event in self.published)
        event = happened(stream, n, sequence=len(self.published) + 1)
        self.published.append(event)
        self.dies_at = event.event_id
        try:
            self.guard.apply(self.names[kind], event)
        except Killed:
            pass
        else:
            self.models[kind].deliver(event)
        self.dies_at = None
        self.restart()

    @rule()
    def restart(self) -> None:
        """Another process goes on."""
        self.bed.run(self.guard.real.close())
        self.guard = self.new_guard()

    @rule(is_due=st.booleans())
    def work(self, is_due: bool) -> None:
        """A round of a worker, now or after a while."""
        if is_due:
            make_due(self.bed)
        self.guard.work()
        for model in self.models.values():
            model.work(is_due=is_due)

    @precondition(lambda self: any(model.poison for model in self.models.values()))
    @rule(data=st.data())
    def heal(self, data: st.DataObject) -> None:
        """A bug is mended."""
        kind = data.draw(st.sampled_from([kind for kind, model in self.models.items() if model.poison]))
        self.models[kind].poison.discard(data.draw(st.sampled_from(sorted(self.models[kind].poison))))

    @precondition(lambda self: any("failed" in model.states.values() for model in self.models.values()))
    @rule(data=st.data(), strategy=st.sampled_from(["retry", "skip", "manual_fix"]))
    def resolve(self, data: st.DataObject, strategy: Literal["retry", "skip", "manual_fix"]) -> None:
        """A person ends a failure."""
        kind = data.draw(st.sampled_from([k for k, model in self.models.items() if "failed" in model.states.values()]))
        model = self.models[kind]
        failures = sorted(self.guard.failures(self.names[kind]).items, key=lambda failure: str(failure.event_id))
        failure = data.draw(st.sampled_from(failures))
        try:
            self.guard.resolve(failure.id, strategy, actor="somebody")
        except FailureBusy:
            assert strategy == "retry"
            assert model.is_paused
            return
        if strategy == "retry":
            model.attempt(next(event for event in self.published if event.event_id == failure.event_id))
        else:
            model.states[failure.event_id] = "skipped" if strategy == "skip" else "fixed"

    @rule(kind=st.sampled_from(["joined", "apart"]), wanted=st.booleans())
    def pause_or_resume(self, kind: str, wanted: bool) -> None:
        """A person stops a projection, or lets it go on."""
        act: Callable[..., object] = self.guard.pause if wanted else self.guard.resume
        act(self.names[kind], actor="somebody")
        self.models[kind].is_paused = wanted

    @rule(kind=st.sampled_from(["joined", "apart"]))
    def reset(self, kind: str) -> None:
        """A person sets a projection back."""
        self.guard.reset(self.names[kind], actor="somebody")
        self.models[kind].forget()

    # -- what must hold

    @invariant()
    def every_event_is_in_exactly_one_state(self) -> None:
        """P1, and which one."""
        for kind, name in self.names.items():
            assert states_of(self.bed, name) == self.models[kind].states

    @invariant()
    def effects_are_in_order_and_there_once(self) -> None:
        """P2 and P3, in the read model itself."""
        self.models["joined"].assert_effects(self.bed.effects(self.names["joined"]))
        self.models["apart"].assert_effects(self.done)

    @invariant()
    def checkpoints_and_counters_say_so(self) -> None:
        """P5 and P6."""
        assert active_equals_open_rows(self.bed)
        for kind, name in self.names.items():
            model, health = self.models[kind], self.guard.health(name)
            states = list(model.states.values())
            assert (health.active_failures, health.parked_events) == (states.count("failed"), states.count("parked"))
            assert health.total_failures == model.failures
            assert self.guard.checkpoint(name).last_event_sequence == model.checkpoint

    def teardown(self) -> None:
        """Everything is mended, nobody is paused: with no operator all is applied in the end."""
        for kind, name in self.names.items():
            self.models[kind].poison.clear()
            if self.models[kind].is_paused:
                self.pause_or_resume(kind, False)
            for event in self.published:
                self.deliver_to(kind, name, event)
        self.work(True)
        self.every_event_is_in_exactly_one_state()
        self.effects_are_in_order_and_there_once()
        for kind, name in self.names.items():
            assert set(self.models[kind].states.values()) <= {"applied", "skipped", "fixed"}
            assert self.guard.health(name).status == "healthy"
        self.bed.run(self.guard.real.close())

    def deliver_to(self, kind: str, name: str, event: Happened) -> None:
        """Deliver to one projection."""
        self.guard.apply(name, event)
        self.models[kind].deliver(event)


@pytest.fixture
def machine(bed: Bed) -> type[Machine]:
    """The machine on one bed."""
    return type("MachineOnBed", (Machine,), {"bed": bed})


@pytest.mark.slow
def test_any_history_leaves_what_the_model_says(machine: type[Machine]) -> None:
    """Publish, fail, heal, retry, resolve, pause, reset, crash and redeliver in any order."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or 12,
            stateful_step_count=25,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
