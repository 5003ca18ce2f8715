"""The worker as a process of its own: `projection-guard worker shop.projections:guard`."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

from .. import _desk
from ..errors import ConfigurationError
from ..worker_service import Page, WorkerServiceSettings, run_worker_service
from ._command import Asked, Command, needs_handlers
from ._exits import WrongUsage
from ._finding import AnyGuard, guard_of, is_bare

__all__ = ["WORKER"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_LINE: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _work(asked: Asked) -> int:
    options = asked.options
    if options.target is not None:
        if options.app not in (None, options.target):
            raise WrongUsage("The application is named twice: give either worker MODULE:ATTRIBUTE or --app")
        options.app = options.target
    if is_bare(options):
        raise needs_handlers("worker")
    guard = guard_of(options, asked.screen.hidden, must_exist=True)
    _log_to_stderr(options.log_level)
    if not _desk.service_of(guard).projections:
        raise WrongUsage("This guard has no projections: import the modules that register them where it is made")
    try:
        settings = WorkerServiceSettings(
            poll_seconds=options.poll_seconds,
            batch=options.batch,
            grace_seconds=options.grace_seconds,
            health_file=options.health_file,
            health_host=options.health_host,
            health_port=options.health_port,
            pages=() if options.health_port is None else _metrics(guard),
        )
        return run_worker_service(guard, settings)
    except ConfigurationError as error:
        raise WrongUsage(str(error)) from error


def _metrics(guard: AnyGuard) -> tuple[Page, ...]:
    """Return the page of the metrics, where what makes it is installed."""
    try:
        from ..prometheus import metrics_page
    except ImportError:
        return ()
    return (metrics_page(guard),)


def _log_to_stderr(level: str) -> None:
    """Show the library's log, where the application's module has not said what is to become of logs."""
    if not logging.getLogger().handlers:
        logging.basicConfig(format=_LINE, level=logging.WARNING)
        logging.getLogger("projection_guard").setLevel(level.upper())


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="MODULE:ATTRIBUTE", help="the guard, as --app")
    group = parser.add_argument_group("work")
    group.add_argument(
        "--poll-seconds", type=float, default=0.5, metavar="S", help="how often it looks for work of others (0.5)"
    )
    group.add_argument(
        "--batch", type=int, default=100, metavar="N", help="the most retries and drains in one go (100)"
    )
    group.add_argument(
        "--grace-seconds",
        type=float,
        default=25.0,
        metavar="S",
        help="what is in hand may take so long to end after SIGTERM or SIGINT (25)",
    )
    group = parser.add_argument_group("probes")
    group.add_argument(
        "--health-file", type=Path, metavar="FILE", help="written every 5 s while it is alive, removed when it stops"
    )
    group.add_argument("--health-port", type=int, metavar="PORT", help="answers /livez, /readyz and /metrics; 0: any")
    group.add_argument("--health-host", default="127.0.0.1", metavar="HOST", help="its address (127.0.0.1)")
    parser.add_argument("--log-level", choices=_LEVELS, default="info", help="of its log on standard error (info)")


WORKER: Final = Command(
    words="worker",
    help="retry, drain, follow, run jobs, send alerts, until SIGTERM; as many processes as you like",
    run=_work,
    options=_options,
)
