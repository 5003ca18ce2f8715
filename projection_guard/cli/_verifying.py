"""The command that compares a live read model with its log: `projection-guard verify`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Final

from .._core.asked import Asked, Verifying
from ._command import Call, Command, with_handlers
from ._parser import actor_of
from ._replaying import add_job_options, begin

__all__ = ["VERIFY"]


async def _verify(call: Call) -> int:
    options = call.options
    asked = Asked(
        actor=actor_of(options),
        into=options.into,
        max_failures=options.max_failures,
        events_per_second=options.rate,
        note=options.note,
        verifying=Verifying(
            sample_streams=options.sample_streams,
            streams=options.stream,
            stream_column=options.stream_column,
            ignore=options.ignore,
            max_differences=options.max_differences,
        ),
    )
    return await begin(call, call.here(options.name), asked)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the projection")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="COLUMN", help="not to be compared, such as a time of writing"
    )
    group = parser.add_argument_group("a part of it")
    group.add_argument("--sample-streams", type=int, metavar="N", help="so many streams, drawn at random")
    group.add_argument("--stream", action="append", metavar="ID", help="this stream; may be said several times")
    help_text = "the column that names a row's stream: shows rows that should not be there, too"
    group.add_argument("--stream-column", metavar="COLUMN", help=help_text)
    parser.add_argument("--into", metavar="NAME", help="the name of the copy, where the usual one is taken")
    parser.add_argument(
        "--max-differences", type=int, default=10, metavar="N", help="tell the keys of at most so many rows a kind (10)"
    )
    help_text = "give up when more events than that fail in the copy only (0)"
    parser.add_argument("--max-failures", type=int, default=0, metavar="N", help=help_text)
    add_job_options(parser)


VERIFY: Final = Command(
    words="verify",
    help="compare a read model with what its log says, and change nothing",
    run=with_handlers(_verify),
    options=_options,
)
