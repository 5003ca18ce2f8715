"""A double of KurrentDB's server: two of its gRPC services, over a log in memory, for its own client to talk to.

No server can be had here. What is real is the client, its classes, its protocol buffers and gRPC between them. What is
a double is what answers: `Read` of the streams service and `Read` of persistent subscriptions, as their documentation
and that of the client say that they behave:

- positions rise and are not gapless; reading from what is no event's position is refused, as the server does;
- reading forwards begins with the event at the position, reading ends where the log ends;
- a group sends what was not answered, again after "retry", no more after "ack", "park" and "skip".
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from uuid import uuid4

from kurrentdbclient.protos.v1 import persistent_pb2, shared_pb2, streams_pb2

__all__ = ["Group", "Kurrent"]

grpc: Any = import_module("grpc")  # it has no types

FIRST = 1_000
ACTIONS = {0: "unknown", 1: "park", 2: "retry", 3: "skip", 4: "stop"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An event in the log. `links_to`: this one is a link to that one."""

    id: str
    type: str
    stream: str
    revision: int
    position: int
    data: bytes
    links_to: Record | None = None

    def message(self, kind: Any) -> Any:
        """Return it as the protocol has it."""
        created = str(int((1_767_268_800 + self.position) * 10_000_000))
        return kind.RecordedEvent(
            id=shared_pb2.UUID(string=self.id),
            stream_identifier=shared_pb2.StreamIdentifier(stream_name=self.stream.encode()),
            stream_revision=self.revision,
            prepare_position=self.position,
            commit_position=self.position,
            metadata={"type": self.type, "content-type": "application/json", "created": created},
            data=self.data,
        )


@dataclass
class Group:
    """A persistent subscription to all events: what waits, what is out, and what was answered."""

    name: str
    waiting: queue.Queue[tuple[Record, int]] = field(default_factory=queue.Queue)
    out: dict[str, tuple[Record, int]] = field(default_factory=dict)
    answers: list[tuple[str, str]] = field(default_factory=list)
    parked: list[Record] = field(default_factory=list)
    readers: set[object] = field(default_factory=set)

    def answer(self, ack_id: str, action: str) -> None:
        """Take an answer for an event."""
        record, times = self.out.pop(ack_id)
        self.answers.append((action, (record.links_to or record).id))
        if action == "retry":
            self.waiting.put((record, times + 1))
        elif action == "park":
            self.parked.append(record)

    def drop(self) -> None:
        """Take back what a consumer did not answer, as for one whose connection is gone."""
        for record, times in self.out.values():
            self.waiting.put((record, times))
        self.out.clear()


class Kurrent:
    """The server; `url` is for the client."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self.positions: set[int] = set()
        self.groups: dict[str, Group] = {}
        self.lengths: Counter[str] = Counter()
        self.reads: list[str] = []
        self.lock = threading.RLock()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=16))
        self._server.add_generic_rpc_handlers(
            (
                _service("streams.Streams", grpc.unary_stream_rpc_method_handler, _Streams(self).read, streams_pb2),
                _service(
                    "persistent_subscriptions.PersistentSubscriptions",
                    grpc.stream_stream_rpc_method_handler,
                    _Subscriptions(self).read,
                    persistent_pb2,
                ),
            )
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"kdb://127.0.0.1:{port}?Tls=false"
        self._server.start()

    def close(self) -> None:
        """Stop it."""
        self._server.stop(grace=None).wait()

    def clear(self) -> None:
        """Begin with an empty log."""
        with self.lock:
            self.__dict__.update(log=[], positions=set(), groups={}, lengths=Counter(), reads=[])

    def append(
        self, *streams: str, kind: str = "Happened", data: bytes = b"{}", to: Record | None = None
    ) -> list[Record]:
        """Append an event to each stream, and hand them to the groups."""
        with self.lock:
            made = [self._append(stream, kind, data, to) for stream in streams]
            for group in self.groups.values():
                for record in made:
                    group.waiting.put((record, 0))
            return made

    def _append(self, stream: str, kind: str, data: bytes, to: Record | None) -> Record:
        before = self.log[-1] if self.log else None
        position = max([FIRST, *self.positions]) + 87 + len(before.data if before else b"") + len(stream)
        record = Record(
            id=str(uuid4()),
            type=kind,
            stream=stream,
            revision=self.lengths[stream],
            position=position,
            data=data,
            links_to=to,
        )
        self.lengths[stream] += 1
        self.positions.add(position)
        self.log.append(record)
        return record

    def remove(self, position: int) -> None:
        """Take an event out, as a scavenge does; its position is one that can be read from all the same."""
        with self.lock:
            self.log = [record for record in self.log if record.position != position]

    def group(self, name: str) -> Group:
        """Make a persistent subscription to what there is and what will come."""
        with self.lock:
            group = self.groups[name] = Group(name)
            for record in self.log:
                group.waiting.put((record, 0))
            return group


def _service(name: str, handler: Any, method: Any, messages: Any) -> Any:
    """Return a service that has the method `Read`."""
    made = handler(
        method,
        request_deserializer=messages.ReadReq.FromString,
        response_serializer=messages.ReadResp.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(f"event_store.client.{name}", {"Read": made})


class _Streams:
    def __init__(self, kurrent: Kurrent) -> None:
        self._kurrent = kurrent

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        options = request.options
        which = options.WhichOneof("stream_option")
        with self._kurrent.lock:
            self._kurrent.reads.append(which)
            found = self._of_all(options, context) if which == "all" else self._of_stream(options)
        if found is None:
            yield streams_pb2.ReadResp(stream_not_found=streams_pb2.ReadResp.StreamNotFound())
            return
        for record in found[: options.count]:
            kind = streams_pb2.ReadResp.ReadEvent
            yield streams_pb2.ReadResp(event=kind(event=record.message(kind), commit_position=record.position))

    def _of_all(self, options: Any, context: Any) -> list[Record]:
        is_backwards = options.read_direction == streams_pb2.ReadReq.Options.Backwards
        found = list(reversed(self._kurrent.log)) if is_backwards else list(self._kurrent.log)
        if options.all.WhichOneof("all_option") == "position":
            position = options.all.position.commit_position
            if position not in self._kurrent.positions:
                context.abort(grpc.StatusCode.UNKNOWN, "Unexpected FilteredReadAllResult: InvalidPosition")
            found = [
                each for each in found if (each.position < position if is_backwards else each.position >= position)
            ]
        if options.WhichOneof("filter_option") == "filter":
            by = options.filter.WhichOneof("filter")
            regex = re.compile(getattr(options.filter, by).regex)
            found = [each for each in found if regex.match(each.stream if by == "stream_identifier" else each.type)]
        return found

    def _of_stream(self, options: Any) -> list[Record] | None:
        name = options.stream.stream_identifier.stream_name.decode()
        found = [record for record in self._kurrent.log if record.stream == name]
        if not found:
            return None
        return found[::-1] if options.read_direction == streams_pb2.ReadReq.Options.Backwards else found


class _Subscriptions:
    def __init__(self, kurrent: Kurrent) -> None:
        self._kurrent = kurrent

    def read(self, request_iterator: Iterable[Any], context: Any) -> Iterator[Any]:
        requests = iter(request_iterator)
        options = next(requests).options
        group = self._kurrent.groups[options.group_name]
        ended = threading.Event()
        context.add_callback(ended.set)
        answering = threading.Thread(target=self._answers, args=(requests, group, ended), daemon=True)
        answering.start()
        group.readers.add(answering)
        confirmed = persistent_pb2.ReadResp.SubscriptionConfirmation(subscription_id=f"$all::{group.name}")
        try:
            yield persistent_pb2.ReadResp(subscription_confirmation=confirmed)
            while not ended.is_set():
                if len(group.out) >= options.buffer_size:
                    time.sleep(0.005)
                    continue
                try:
                    record, times = group.waiting.get(timeout=0.02)
                except queue.Empty:
                    continue
                group.out[record.id] = (record, times)
                yield persistent_pb2.ReadResp(event=_event(record, times))
        finally:
            answering.join(30)  # what it answered with its last breath counts; only the rest is sent again
            group.drop()
            group.readers.discard(answering)

    def _answers(self, requests: Iterator[Any], group: Group, ended: threading.Event) -> None:
        try:
            for request in requests:
                which = request.WhichOneof("content")
                said = getattr(request, which)
                for each in said.ids:
                    group.answer(each.string, "ack" if which == "ack" else ACTIONS[said.action])
        except grpc.RpcError:
            pass
        finally:
            ended.set()


def _event(record: Record, times: int) -> Any:
    """Return what is sent of an event: a link is resolved."""
    kind = persistent_pb2.ReadResp.ReadEvent
    if record.links_to is None:
        return kind(event=record.message(kind), commit_position=record.position, retry_count=times)
    return kind(
        event=record.links_to.message(kind),
        link=record.message(kind),
        commit_position=record.links_to.position,
        retry_count=times,
    )
