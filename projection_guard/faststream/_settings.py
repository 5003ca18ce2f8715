"""Which settings of a subscriber keep the guard's promises: looked at when it is registered, and on the server.

A stream's events are applied in the order in which they reach the guard. So the broker must not hand out an event
before the one in front of it is settled, to nobody, also after a consumer has died. Each broker has its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..errors import RegistrationError

__all__ = ["broker_of", "check", "check_channels", "check_together", "verify"]

_BROKERS: Final = ("nats", "rabbit", "kafka", "confluent", "redis", "mqtt")
_DROPS_ON_REJECT: Final = ("workqueue", "interest")


def broker_of(subscriber: object) -> str:
    """Return whose subscriber this is, by FastStream's name of the broker; "" where that is not known."""
    for kind in type(subscriber).__mro__:
        words = kind.__module__.split(".")
        if words[0] == "faststream" and len(words) > 1 and words[1] in _BROKERS:
            return words[1]
    return ""


def check(subscriber: object, what: str, *, is_ordered: bool, unreadable: object) -> None:
    """Raise `RegistrationError` where a setting would lose messages or, for those that keep it, break their order."""
    broker = broker_of(subscriber)
    rules = _RULES.get(broker)
    if rules is None:
        raise RegistrationError(
            f"{what}: {type(subscriber).__name__} is no subscriber of NATS JetStream, RabbitMQ, Kafka or Redis "
            "streams, the brokers that bring a message again until it is acknowledged"
        )
    policy = getattr(_get(subscriber, "ack_policy"), "value", None)
    if policy != "manual":
        raise RegistrationError(
            f"{what}: its subscriber acknowledges by itself; give it ack_policy=AckPolicy.MANUAL, the guard does it"
        )
    if "batch" in type(subscriber).__name__.lower():
        raise RegistrationError(f"{what}: a subscriber of batches is not supported; leave batch=True out")
    found = rules(subscriber, is_ordered=is_ordered, unreadable=unreadable)
    if found is not None:
        raise RegistrationError(f"{what}: {found}")


def check_channels(subscribers: Sequence[object], what: str, others: Sequence[object], *, is_ordered: bool) -> None:
    """Raise `RegistrationError` where one that is to keep the order of streams shares its channel with another one.

    `others`: who must not share one with these.
    """
    mine = [id(_get(each, "channel")) for each in subscribers if _is_on_rabbit(each)]
    theirs = [id(_get(each, "channel")) for each in others if _is_on_rabbit(each)]
    if (is_ordered and len({*mine}) < len(mine)) or not {*mine}.isdisjoint(theirs):
        raise RegistrationError(
            f"{what}: two subscribers share one Channel of RabbitMQ, which is closed when one of them ends, so that "
            "what it has in hand goes back to its place before anybody is sent the next one; give each a Channel of "
            "its own"
        )


def _is_on_rabbit(subscriber: object) -> bool:
    return broker_of(subscriber) == "rabbit" and _get(subscriber, "channel") is not None


def check_together(subscribers: Sequence[object], what: str) -> None:
    """Raise `RegistrationError` where nobody takes up what a consumer of a group of Redis was given and has not done.

    Redis hands it out anew to who claims it, and to nobody else: not even to the consumer that has given it back.
    """
    streams = [_get(each, "stream_sub") for each in subscribers if broker_of(each) == "redis"]
    claimed = {
        (stream.name, stream.group)
        for stream in streams
        if _get(stream, "min_idle_time") is not None or _get(stream, "claim_min_idle_time") is not None
    }
    for stream in streams:
        if (stream.name, stream.group) not in claimed:
            raise RegistrationError(
                f"{what}: Redis brings a message of {stream.name!r} again, after an error or a crash, only to a "
                "consumer that claims it; give one more subscriber of this group, with a consumer= of its own and "
                "min_idle_time=60_000 (or this one claim_min_idle_time=, on Redis 8.4)"
            )


async def verify(subscriber: object, what: str, *, is_ordered: bool, unreadable: object) -> None:
    """Look at consumer and stream as the NATS server has them: what was there before keeps its settings, unasked.

    Raises `RegistrationError` where those break a promise.
    """
    ask = getattr(_get(subscriber, "subscription"), "consumer_info", None)
    if broker_of(subscriber) != "nats" or ask is None:
        return
    kept: Any = await ask()
    found = _consumer(kept.config, is_ordered=is_ordered)
    if found is not None:
        raise RegistrationError(f"{what}: consumer {kept.name!r}, as the server has it: {found}")
    look = getattr(_get(subscriber, "jetstream"), "stream_info", None)
    if unreadable is None and look is not None:
        try:
            stream = await look(kept.stream_name)
        except Exception as error:
            raise RegistrationError(
                f"{what}: stream {kept.stream_name!r} cannot be looked at ({type(error).__name__}), so it is not known "
                "whether it forgets what is rejected; say Guarding(unreadable=...)"
            ) from error
        found = _stream(stream.config)
        if found is not None:
            raise RegistrationError(f"{what}: stream {kept.stream_name!r}, as the server has it: {found}")


def _stream(config: object) -> str | None:
    retention = _get(config, "retention")
    name = str(getattr(retention, "value", retention))
    if name in _DROPS_ON_REJECT:
        return f"a stream with retention={name} forgets a message that is rejected; say Guarding(unreadable=...)"
    return None


def _consumer(config: object, *, is_ordered: bool) -> str | None:
    policy = _get(config, "ack_policy")
    if policy is not None and getattr(policy, "value", policy) != "explicit":
        return "NATS takes messages for settled that nobody has acknowledged; leave ack_policy= out of ConsumerConfig"
    if _get(config, "max_deliver") not in (None, -1):
        return "max_deliver= makes NATS give up a message that was not settled, and so lose it; leave it out"
    if is_ordered and _get(config, "max_ack_pending") != 1:
        return (
            "NATS hands out the next message while one is on its way, and after a crash the two come in any order; "
            "give the subscriber config=ConsumerConfig(max_ack_pending=1), and spread streams over several subjects, "
            "or register the projection with order='none'"
        )
    return None


def _nats(subscriber: object, *, is_ordered: bool, unreadable: object) -> str | None:
    stream, config = _get(subscriber, "stream"), _get(subscriber, "config")
    if stream is None or config is None:
        return "NATS without JetStream loses what is in hand when a process dies; name its stream="
    if not _get(config, "durable_name"):
        return "its consumer would be gone with this process; give the subscriber durable="
    found = _consumer(config, is_ordered=is_ordered)
    if found is not None:
        return found
    return _stream(_get(stream, "config")) if unreadable is None else None


def _rabbit(subscriber: object, *, is_ordered: bool, unreadable: object) -> str | None:
    queue, channel = _get(subscriber, "queue"), _get(subscriber, "channel")
    arguments: dict[str, Any] = _get(queue, "arguments") or {}
    if _get(queue, "exclusive") or _get(queue, "auto_delete") or _get(queue, "durable") is False:
        return "its queue and all that waits there go away; give it durable=True, and no exclusive= or auto_delete="
    if arguments.get("x-queue-type") == "stream":
        return "a stream of RabbitMQ is acknowledged by position, not by message; use a classic or quorum queue"
    if arguments.get("x-queue-type") == "quorum" and arguments.get("x-delivery-limit", 0) != -1:
        return (
            "a quorum queue gives up a message that came back too often (20 times in RabbitMQ 4); "
            "give it arguments={'x-delivery-limit': -1}"
        )
    if unreadable is None and not arguments.get("x-dead-letter-exchange"):
        return (
            "RabbitMQ drops a message that is rejected where nothing takes dead letters; give the queue "
            "arguments={'x-dead-letter-exchange': ...}, or say Guarding(unreadable=...)"
        )
    if is_ordered and not arguments.get("x-single-active-consumer"):
        return (
            "RabbitMQ hands one message of a queue to one consumer and the next to another; give the queue "
            "arguments={'x-single-active-consumer': True}, or register the projection with order='none'"
        )
    if is_ordered and _get(channel, "prefetch_count") != 1:
        return (
            "FastStream handles all messages that RabbitMQ has sent ahead at the same time; give the subscriber "
            "channel=Channel(prefetch_count=1), or register the projection with order='none'"
        )
    return None


def _kafka(subscriber: object, *, is_ordered: bool, unreadable: object) -> str | None:
    del is_ordered, unreadable  # FastStream takes a partition's messages one by one, and the log keeps what is rejected
    if not _get(subscriber, "group_id"):
        return "without group_id= Kafka keeps no place of it, and begins anew where it likes"
    options: dict[str, Any] = (
        _get(subscriber, "_connection_args") or _get(subscriber, "_LogicSubscriber__connection_data") or {}
    )
    if options.get("auto_offset_reset") == "latest":
        return (
            "where its group has committed nothing yet it would begin at the end of the log, and pass over what a "
            "consumer that died had in hand; give the subscriber auto_offset_reset='earliest'"
        )
    return None


def _redis(subscriber: object, *, is_ordered: bool, unreadable: object) -> str | None:
    stream = _get(subscriber, "stream_sub")
    if stream is None:
        return "Redis keeps nothing of a channel or a list: what is in hand when a process dies is lost; use stream="
    if not _get(stream, "group") or _get(stream, "no_ack"):
        return "give StreamSub a group= and consumer=, and no no_ack: without them nothing is acknowledged"
    if is_ordered:
        return (
            "a group of Redis hands out the next message while one is on its way or was left by a dead consumer; "
            "register the projection with order='none', or use another broker"
        )
    if unreadable in (None, "reject"):
        return "Redis has nowhere to reject a message to; say Guarding(unreadable='hold'), or give it a function"
    return None


_RULES: Final[dict[str, Callable[..., str | None]]] = {
    "nats": _nats,
    "rabbit": _rabbit,
    "kafka": _kafka,
    "confluent": _kafka,
    "redis": _redis,
}


def _get(owner: object, *names: str) -> Any:
    """Follow attributes of FastStream's objects; None where one is not there (in another version)."""
    found: Any = owner
    for name in names:
        found = getattr(found, name, None)
    return found
