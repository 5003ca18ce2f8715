"""Anything in any order with a followed log, against a small model: append, roll back, fail, heal, work, resolve, skip.

And pause, replay a range, reset, rebuild, die in the middle of a handler, and two workers who take turns. The model
knows the log and a dozen lines of rules, and nothing of the library; after each step what is on record has to be what
it says (P1, P2, P3, P5, P6). A crash here is the end of the process, a child of this one (`os._exit` in the handler).
Each history begins with every action once, in some order: of a few examples Hypothesis leaves most rules out.
`PROJECTION_GUARD_EXAMPLES` sets how many histories are tried on each bed, at random then instead of always the same.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
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
from tests.bed import Bed, GuardOnBed, Happened
from tests.faults.processes import in_child
from tests.flow.acting import active_equals_open_rows, listed, make_due
from tests.following.logs import FollowedLog
from tests.following.model import Model

Kind = Literal["joined", "apart"]
Strategy = Literal["retry", "skip", "manual_fix"]
PATIENT = RetryPolicy(wait=wait_fixed(3600), stop=stop_never, breaker=None)
EXAMPLES = int(os.environ.get("PROJECTION_GUARD_EXAMPLES", "0"))
KINDS: tuple[Kind, ...] = ("joined", "apart")
DIED = 77
numbers = itertools.count(1)
some_streams = st.lists(st.sampled_from("AB"), min_size=1, max_size=4)
some_places = st.sets(st.integers(0, 7), max_size=3)
some_kinds = st.sampled_from(KINDS)
some_strategies: st.SearchStrategy[Strategy] = st.sampled_from(["retry", "skip", "manual_fix"])
FIRST = (
    *("roll_back", "append_and_work", "take_turns", "heal", "resolve", "crash", "restart", "replay"),
    *("rebuild", "pause", "resume", "reset"),
)
"""Every action, in an order in which each can be done: Hypothesis begins with it."""


class Machine(RuleBasedStateMachine):
    """One history of two projections, joined and apart, that follow one log, with two guards who take turns."""

    bed: ClassVar[Bed]
    log_of: ClassVar[Callable[[], FollowedLog]]
    notes: ClassVar[Path]
    order: ClassVar[str]
    done: ClassVar[Counter[str]]

    @initialize(streams=some_streams, fails=some_places, first=st.permutations(FIRST), data=st.data())
    def begin(self, streams: list[str], fails: set[int], first: list[str], data: st.DataObject) -> None:
        """Start with two guards, two new projections and a log of a few events; then do everything once."""
        number = next(numbers)
        self.log = type(self).log_of()
        self.names: dict[Kind, str] = {"joined": f"J{number}", "apart": f"X{number}"}
        self.models: dict[Kind, Model] = {kind: Model(self.order) for kind in KINDS}
        self.appended: list[Happened] = []
        self.file = self.notes / f"{number}"
        self.file.touch()
        self.dies_at: tuple[Kind, str] | None = None
        self.sources: list[Any] = []
        self.guards = [self.new_guard(), self.new_guard()]
        self.append_these(streams, fails | {0, 1})  # something fails, so that there is something to resolve and heal
        self.work(False)
        for name in first:
            self.act(name, data)
            self.what_is_open_is_on_record()
            self.effects_are_in_order_and_there_once()
            self.checkpoints_and_counters_say_so()

    def act(self, name: str, data: st.DataObject) -> None:
        """Do one action, where it can be done."""
        match name:
            case "roll_back":
                self.roll_back()
            case "take_turns":
                self.take_turns()
            case "restart":
                self.restart()
            case "append_and_work":
                self.append_and_work(data.draw(st.booleans()), data.draw(some_streams), data.draw(some_places))
            case "crash":
                self.append(data.draw(some_streams), data.draw(some_places))
                self.crash(data)
            case _:
                self.intervene(name, data)

    def intervene(self, name: str, data: st.DataObject) -> None:
        """Do what a person does, where it can be done."""
        match name:
            case "resolve" if self.has_failures():
                self.resolve(data, data.draw(some_strategies))
            case "heal" if self.has_poison():
                self.heal(data)
            case "pause" | "resume":
                self.pause_or_resume(data.draw(some_kinds), name == "pause")
            case "replay" if self.can_replay():
                self.replay(data)
            case "rebuild" if self.order != "global":
                self.rebuild(data.draw(some_kinds))
            case "reset":
                self.reset(data.draw(some_kinds))
            case _:
                return

    @property
    def guard(self) -> GuardOnBed:
        """The guard whose turn it is."""
        return self.guards[0]

    def new_guard(self) -> GuardOnBed:
        """Make a guard as the next process would."""
        source = self.log.source()
        self.sources.append(source)
        guard = self.bed.guard(source=source, retry=PATIENT, order=self.order, lease=timedelta(seconds=30))
        note, is_async = listed(self.names["joined"]), self.bed.is_async

        def ends(kind: Kind, event: Happened) -> None:
            if self.dies_at == (kind, event.event_id):
                os._exit(DIED)
            if event.event_id in self.models[kind].poison:
                raise ValueError("planned")

        def joined(event: Happened, connection: Connection) -> None:
            note(event, connection)
            ends("joined", event)

        def apart(event: Happened) -> None:
            ends("apart", event)
            with self.file.open("a") as file:
                file.write(f"{event.stream_id} {event.n}\n")

        def clear(connection: Connection) -> None:
            connection.execute(text("DELETE FROM effects WHERE projection = :name"), {"name": self.names["joined"]})

        async def clear_async(connection: Any) -> None:
            await connection.run_sync(clear)

        def forget(_: object) -> None:
            self.file.write_text("")

        async def forget_async(_: object) -> None:
            self.file.write_text("")

        self.bed.joined(guard, self.names["joined"], joined, on_reset=clear_async if is_async else clear)
        self.bed.apart(guard, self.names["apart"], apart, on_reset=forget_async if is_async else forget)
        return guard

    # -- what may happen

    @rule(streams=some_streams, fails=some_places)
    def append(self, streams: list[str], fails: set[int]) -> None:
        """Events are committed to the log; some are such as a handler fails on."""
        self.append_these(streams, fails)

    def append_these(self, streams: list[str], fails: set[int]) -> None:
        """Append events, and say on which of them whose handler fails."""
        for place, event in enumerate(self.log.append(*streams)):
            self.appended.append(event)
            for number, kind in enumerate(KINDS):
                if 2 * place + number in fails:
                    self.models[kind].poison.add(event.event_id)

    @rule()
    def roll_back(self) -> None:
        """A transaction takes a number of the log and is rolled back: a hole."""
        with self.bed.engine.connect() as connection:
            connection.execute(text("INSERT INTO log (event_id, event_type, stream_id) VALUES ('gone', 'Gone', 'A')"))
            connection.rollback()
        self.done["roll_back"] += 1

    @rule()
    def take_turns(self) -> None:
        """It is the other worker's turn."""
        self.guards.reverse()
        self.done["take_turns"] += 1

    @rule()
    def restart(self) -> None:
        """Another process goes on."""
        self.bed.run(self.guard.real.close())
        self.guards[0] = self.new_guard()
        self.done["restart"] += 1

    @rule(is_due=st.booleans(), streams=some_streams, fails=some_places)
    def append_and_work(self, is_due: bool, streams: list[str], fails: set[int]) -> None:
        """Events, and a round of a worker: Hypothesis leaves whole rules out; without events there is nothing."""
        self.append_these(streams, fails)
        self.work(is_due)
        self.done["append_and_work"] += 1

    def work(self, is_due: bool) -> None:
        """A round of a worker, now or after a while."""
        if is_due:
            make_due(self.bed)
        self.guard.work()
        for model in self.models.values():
            model.work(self.appended, is_due=is_due)

    @precondition(lambda self: any(model.at < len(self.appended) for model in self.models.values()))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The process dies in the handler of an event of the log; another one finds what it had in hand.

        In one line for all it dies at the last one: what it had in hand behind a failure would be parked, where the
        model lets it wait in the log.
        """
        kind = data.draw(st.sampled_from([kind for kind in KINDS if self.models[kind].at < len(self.appended)]))
        model, name = self.models[kind], self.names[kind]
        ahead = self.appended[-1:] if self.order == "global" else self.appended[model.at :]
        self.dies_at = (kind, data.draw(st.sampled_from(ahead)).event_id)
        code = in_child(self.bed, lambda: self.new_guard().catch_up(name))
        assert code in (0, DIED)
        has_died = code == DIED
        self.done["crash"] += has_died
        self.dies_at = None
        self.let_leases_end()
        self.guard.catch_up(name)
        if not has_died or kind == "joined":
            model.follow(self.appended)
        else:
            self.follow_again(model)

    def follow_again(self, model: Model) -> None:
        """What was called before the process died, and is not on record, is called again: at least once."""
        lines = self.file.read_text().splitlines()
        known = len(model.effects)
        model.follow(self.appended)
        expected = model.effects[known:]
        seen = [(line.split()[0], int(line.split()[1])) for line in lines[known:]]
        for stream in "AB":
            of_stream = [effect for effect in seen if effect[0] == stream]
            wanted = [effect for effect in expected if effect[0] == stream]
            assert list(dict.fromkeys(of_stream)) == wanted, (of_stream, wanted)
        model.effects[known:] = seen

    def let_leases_end(self) -> None:
        """Time passes."""
        past = self.bed.in_seconds(-86_400)
        self.bed.change(f"UPDATE projection_partitions SET lease_expires_at = {past} WHERE lease_owner IS NOT NULL")

    def has_poison(self) -> bool:
        """Return whether a handler fails on something."""
        return any(model.poison for model in self.models.values())

    @precondition(has_poison)
    @rule(data=st.data())
    def heal(self, data: st.DataObject) -> None:
        """A bug is mended."""
        kind = data.draw(st.sampled_from([kind for kind in KINDS if self.models[kind].poison]))
        self.models[kind].poison.discard(data.draw(st.sampled_from(sorted(self.models[kind].poison))))
        self.done["heal"] += 1

    def has_failures(self) -> bool:
        """Return whether something is to be resolved."""
        return any("failed" in model.states.values() for model in self.models.values())

    @precondition(has_failures)
    @rule(data=st.data(), strategy=some_strategies)
    def resolve(self, data: st.DataObject, strategy: Strategy) -> None:
        """A person ends a failure."""
        kind = data.draw(st.sampled_from([kind for kind in KINDS if "failed" in self.models[kind].states.values()]))
        model = self.models[kind]
        failures = sorted(self.guard.failures(self.names[kind]).items, key=lambda failure: str(failure.event_id))
        failure = data.draw(st.sampled_from(failures))
        try:
            self.guard.resolve(failure.id, strategy, actor="somebody")
        except FailureBusy:
            assert (strategy, model.is_paused) == ("retry", True)
            return
        if strategy == "retry":
            model.attempt(next(event for event in self.appended if event.event_id == failure.event_id))
        else:
            del model.states[failure.event_id]
        self.done["resolve"] += 1

    @rule(kind=st.sampled_from(KINDS), wanted=st.booleans())
    def pause_or_resume(self, kind: Kind, wanted: bool) -> None:
        """A person stops a projection, or lets it go on."""
        act: Callable[..., object] = self.guard.pause if wanted else self.guard.resume
        act(self.names[kind], actor="somebody")
        self.models[kind].is_paused = wanted
        self.done["pause" if wanted else "resume"] += 1

    @rule(kind=st.sampled_from(KINDS))
    def reset(self, kind: Kind) -> None:
        """A person sets a projection back."""
        self.guard.reset(self.names[kind], actor="somebody")
        self.models[kind].forget()
        self.done["reset"] += 1

    @precondition(lambda self: self.order != "global")
    @rule(kind=st.sampled_from(KINDS))
    def rebuild(self, kind: Kind) -> None:
        """A person lets a read model be filled anew."""
        model = self.models[kind]
        if model.is_paused:
            return
        job = self.guard.rebuild(self.names[kind], actor="somebody")
        assert job.status == "completed", job.error
        model.forget()
        model.follow(self.appended)
        self.done["rebuild"] += 1

    def can_replay(self) -> bool:
        """Return whether something was gone past; the model knows what that does to a stream."""
        return self.order == "stream" and any(model.at for model in self.models.values())

    @precondition(can_replay)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """A person lets a range be applied again, on purpose."""
        kind = data.draw(st.sampled_from([kind for kind in KINDS if self.models[kind].at]))
        model = self.models[kind]
        if model.is_paused:
            return
        first = data.draw(st.integers(1, model.at))
        last = data.draw(st.integers(first, model.at))
        places = [self.sequence(event) for event in self.appended]
        job = self.guard.replay(
            self.names[kind], from_sequence=places[first - 1], to_sequence=places[last - 1], actor="somebody"
        )
        assert job.status == "completed", job.error
        model.replay(self.appended, first, last)
        self.done["replay"] += 1

    def sequence(self, event: Happened) -> int:
        """Return an event's number in the log, which has holes."""
        return int(self.bed.value("SELECT sequence FROM log WHERE event_id = :id", id=event.event_id))

    # -- what must hold

    @invariant()
    def what_is_open_is_on_record(self) -> None:
        """P1: what the projection has gone past is failed, parked or done with."""
        for kind, name in self.names.items():
            found = self.bed.rows(
                "SELECT event_id, 'failed' AS state FROM projection_failures"
                " WHERE projection_name = :p AND resolved_at IS NULL"
                " UNION ALL SELECT event_id, 'parked' FROM projection_parked_events WHERE projection_name = :p",
                p=name,
            )
            assert sorted((row.event_id, row.state) for row in found) == sorted(self.models[kind].states.items())

    @invariant()
    def effects_are_in_order_and_there_once(self) -> None:
        """P2 and P3, in the read model itself, each stream for itself."""
        apart = [(line.split()[0], int(line.split()[1])) for line in self.file.read_text().splitlines()]
        for kind, effects in (("joined", self.bed.effects(self.names["joined"])), ("apart", apart)):
            wanted = self.models[kind].effects  # type: ignore[index]
            for stream in "AB":
                found, told = ([e for e in some if e[0] == stream] for some in (effects, wanted))
                if self.order == "none":  # what is due together is tried in any order
                    found, told = sorted(found), sorted(told)
                assert found == told, kind

    @invariant()
    def checkpoints_and_counters_say_so(self) -> None:
        """P5 and P6."""
        assert active_equals_open_rows(self.bed)
        for kind, name in self.names.items():
            model, health = self.models[kind], self.guard.health(name)
            states = list(model.states.values())
            assert (health.active_failures, health.parked_events) == (states.count("failed"), states.count("parked"))
            cursors = self.log.cursors(name)
            least = 0 if model.at == 0 else self.sequence(self.appended[model.at - 1])
            assert min(cursors, default=0) >= least
            if model.at < len(self.appended):
                assert min(cursors, default=0) < self.sequence(self.appended[model.at])

    def teardown(self) -> None:
        """Everything is mended, nobody is paused: with no operator all is applied in the end."""
        for kind in KINDS:
            self.models[kind].poison.clear()
            if self.models[kind].is_paused:
                self.pause_or_resume(kind, False)
        while any(model.at < len(self.appended) or model.states for model in self.models.values()):
            self.work(True)
        self.work(True)
        self.what_is_open_is_on_record()
        self.effects_are_in_order_and_there_once()
        for name in self.names.values():
            assert self.guard.health(name).status == "healthy"
        for guard in self.guards:
            self.bed.run(guard.real.close())
        for source in self.sources:  # their connections are not left to the last history
            self.bed.run(source.close())


@pytest.fixture
def machine(bed: Bed, tmp_path: Path, order: str) -> type[Machine]:
    """The machine on one bed."""
    logs: list[FollowedLog] = []

    def log_of() -> FollowedLog:
        if logs:
            bed.change("DELETE FROM log")
        logs.append(FollowedLog(bed, is_there=bool(logs)))
        return logs[-1]

    members = {"bed": bed, "log_of": staticmethod(log_of), "notes": tmp_path, "order": order, "done": Counter()}
    return type("MachineOnBed", (Machine,), members)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["stream", "none", "global"])
def test_any_history_leaves_what_the_model_says(machine: type[Machine], order: str) -> None:
    """In any order, with each order of events; everything has happened in some of them."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or (2 if order == "stream" else 1),
            stateful_step_count=20 if EXAMPLES else 10,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    there_is_none = {"stream": set[str](), "none": {"replay"}, "global": {"replay", "rebuild"}}[order]
    assert {name for name in FIRST if not machine.done[name]} == there_is_none
