"""The part of both guards that compares a live read model with its log."""

from __future__ import annotations

from collections.abc import Sequence

from ._core.asked import Asked, Verifying
from ._io.protocol import drive
from ._model import Replay
from ._service import Service

__all__ = ["AsyncForVerifying", "ForVerifying"]


class ForVerifying:
    """Verifying, blocking."""

    _service: Service

    def verify(
        self,
        name: str,
        *,
        sample_streams: int | None = None,
        streams: Sequence[str] | None = None,
        stream_column: str | None = None,
        ignore: Sequence[str] = (),
        max_differences: int = 10,
        max_failures: int = 0,
        into: str | None = None,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Compare a followed projection's read model with what the log says it should be; return what was found.

        Its `tables` are made beside the live ones from the log alone, up to where the live projection has come; then it
        stands still until both are at the same event and compared. Nothing of the live read model is touched, nor
        checkpoint, failures or parked events. What is failed, parked or skipped there is left out of the copy as well,
        and counted apart (`left_out`).

        The job's `drifted` says whether they differ, `compared` where: numbers, and keys of at most `max_differences`
        rows of a kind (0 to 1000), never other values. Columns in `ignore` are not compared, such as the time of
        writing, nor numbers that the database hands out. `sample_streams` draws so many streams, `streams` names them:
        only their events are applied, and only rows that the copy has are compared; in tables with a `stream_column`
        also those that it should have. Where more than `max_failures` events fail in the copy, of those that the live
        one has applied, the job fails. The handler is called again: what it does elsewhere than in `tables`, it does
        again. Raises `InvalidArgument`, `FailureBusy` while another job runs.
        """
        verifying = Verifying(
            sample_streams=sample_streams,
            streams=streams,
            stream_column=stream_column,
            ignore=ignore,
            max_differences=max_differences,
        )
        asked = Asked(
            actor=actor,
            into=into,
            max_failures=max_failures,
            events_per_second=events_per_second,
            note=note,
            verifying=verifying,
        )
        return drive(self._service.on_log.replay(name, asked))

    def start_verify(
        self,
        name: str,
        *,
        sample_streams: int | None = None,
        streams: Sequence[str] | None = None,
        stream_column: str | None = None,
        ignore: Sequence[str] = (),
        max_differences: int = 10,
        max_failures: int = 0,
        into: str | None = None,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Write a verification down, to be run by a worker, and return at once; see `verify`."""
        verifying = Verifying(
            sample_streams=sample_streams,
            streams=streams,
            stream_column=stream_column,
            ignore=ignore,
            max_differences=max_differences,
        )
        asked = Asked(
            actor=actor,
            into=into,
            max_failures=max_failures,
            events_per_second=events_per_second,
            note=note,
            verifying=verifying,
        )
        return drive(self._service.on_log.start_replay(name, asked))


class AsyncForVerifying:
    """Verifying, awaited."""

    _service: Service

    async def verify(
        self,
        name: str,
        *,
        sample_streams: int | None = None,
        streams: Sequence[str] | None = None,
        stream_column: str | None = None,
        ignore: Sequence[str] = (),
        max_differences: int = 10,
        max_failures: int = 0,
        into: str | None = None,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Compare a followed projection's read model with what the log says it should be; return what was found.

        Its `tables` are made beside the live ones from the log alone, up to where the live projection has come; then it
        stands still until both are at the same event and compared. Nothing of the live read model is touched, nor
        checkpoint, failures or parked events. What is failed, parked or skipped there is left out of the copy as well,
        and counted apart (`left_out`).

        The job's `drifted` says whether they differ, `compared` where: numbers, and keys of at most `max_differences`
        rows of a kind (0 to 1000), never other values. Columns in `ignore` are not compared, such as the time of
        writing, nor numbers that the database hands out. `sample_streams` draws so many streams, `streams` names them:
        only their events are applied, and only rows that the copy has are compared; in tables with a `stream_column`
        also those that it should have. Where more than `max_failures` events fail in the copy, of those that the live
        one has applied, the job fails. The handler is called again: what it does elsewhere than in `tables`, it does
        again. Raises `InvalidArgument`, `FailureBusy` while another job runs.
        """
        verifying = Verifying(
            sample_streams=sample_streams,
            streams=streams,
            stream_column=stream_column,
            ignore=ignore,
            max_differences=max_differences,
        )
        asked = Asked(
            actor=actor,
            into=into,
            max_failures=max_failures,
            events_per_second=events_per_second,
            note=note,
            verifying=verifying,
        )
        return await self._service.on_log.replay(name, asked)

    async def start_verify(
        self,
        name: str,
        *,
        sample_streams: int | None = None,
        streams: Sequence[str] | None = None,
        stream_column: str | None = None,
        ignore: Sequence[str] = (),
        max_differences: int = 10,
        max_failures: int = 0,
        into: str | None = None,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Write a verification down, to be run by a worker, and return at once; see `verify`."""
        verifying = Verifying(
            sample_streams=sample_streams,
            streams=streams,
            stream_column=stream_column,
            ignore=ignore,
            max_differences=max_differences,
        )
        asked = Asked(
            actor=actor,
            into=into,
            max_failures=max_failures,
            events_per_second=events_per_second,
            note=note,
            verifying=verifying,
        )
        return await self._service.on_log.start_replay(name, asked)
