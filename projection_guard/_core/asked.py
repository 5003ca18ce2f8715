"""What a person asks of a replay, a rebuild or a verification, and whether it can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import InvalidArgument

__all__ = ["Asked", "Verifying"]

_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_MOST_FAILURES: Final = 10_000
"""Each of them is a row that is written at the exchange, while the projection stands still."""


MOST_SLICES: Final = 256
_MOST_STREAMS: Final = 1000
_MOST_DIFFERENCES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying:
    """What to verify: all, `streams`, or as many as `sample_streams` says; see `ProjectionGuard.verify`."""

    sample_streams: int | None = None
    streams: Sequence[str] | None = None
    stream_column: str | None = None
    ignore: Sequence[str] = ()
    max_differences: int = 10

    def check(self) -> None:
        """Raise `InvalidArgument` for what cannot be."""
        if self.sample_streams is not None and self.streams is not None:
            raise InvalidArgument("sample_streams= draws the streams and streams= names them: give one of the two")
        _check_number("sample_streams", self.sample_streams, 1, _MOST_STREAMS)
        _check_number("max_differences", self.max_differences, 0, _MOST_DIFFERENCES)
        for option, names in (("streams", self.streams), ("ignore", self.ignore)):
            if names is not None and (isinstance(names, str) or not all(map(_is_name, names))):
                raise InvalidArgument(f"{option}= takes a list of names, each of 1 to 255 characters")
        if self.streams is not None and not 1 <= len(set(self.streams)) <= _MOST_STREAMS:
            raise InvalidArgument(f"streams= takes 1 to {_MOST_STREAMS} streams, not {len(set(self.streams))}")
        if self.stream_column is not None and self.sample_streams is None and self.streams is None:
            raise InvalidArgument(
                "stream_column= is for a part of the streams: give sample_streams= or streams= too. A whole read model "
                "is compared row by row"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asked for: a range (None: from the checkpoint on, with what is open); a stream; a rebuild.

    Or, with `verifying`, a comparison.
    """

    actor: str
    is_rebuild: bool = False
    from_sequence: int | None = None
    to_sequence: int | None = None
    stream_id: str | None = None
    skip_failed: bool = False
    events_per_second: float | None = None
    note: str | None = None
    into: str | None = None
    max_failures: int = 0
    slices: int | None = None
    verifying: Verifying | None = None

    def check(self, head: int) -> None:
        """Raise `InvalidArgument` for what cannot be."""
        first, last = self.from_sequence, self.to_sequence
        if first is not None and (isinstance(first, bool) or first < 0):
            raise InvalidArgument(f"from_sequence= takes a sequence of the log, 0 or more, not {first!r}")
        if last is not None and (isinstance(last, bool) or last < 0):
            raise InvalidArgument(f"to_sequence= takes a sequence of the log, 0 or more, not {last!r}")
        if first is not None and last is not None and first > last:
            raise InvalidArgument(f"from_sequence={first} lies beyond to_sequence={last}: that range is empty")
        if last is not None and last > head:
            raise InvalidArgument(f"to_sequence={last} lies beyond the end of the log, which is {head}")
        if self.events_per_second is not None and not 0.1 <= self.events_per_second < 1e9:
            raise InvalidArgument(f"events_per_second= takes 0.1 or more, not {self.events_per_second!r}")
        if self.into is not None and not _IDENTIFIER.fullmatch(self.into):
            raise InvalidArgument(
                f"into= takes a name of lower-case letters, digits and underscores, not {self.into!r}"
            )
        _check_max_failures(self.max_failures)
        _check_number("slices", self.slices, 1, MOST_SLICES)
        if self.verifying is not None:
            self.verifying.check()
        elif self.max_failures and self.into is None:
            raise InvalidArgument(
                "max_failures= is for a rebuild beside the live read model; give into= too. Elsewhere each event that "
                "fails is a failure, and only its stream waits"
            )
        if self.stream_id is not None and (first is not None or last is not None):
            raise InvalidArgument("stream_id= replays the whole stream; leave from_sequence= and to_sequence= out")


def _check_max_failures(given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_FAILURES:
        raise InvalidArgument(f"max_failures= takes a number of events from 0 to {_MOST_FAILURES}, not {given!r}")


def _is_name(given: object) -> bool:
    return isinstance(given, str) and 1 <= len(given) <= 255 and "\0" not in given


def _check_number(option: str, given: object, least: int, most: int) -> None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most):
        raise InvalidArgument(f"{option}= takes a number from {least} to {most}, not {given!r}")
