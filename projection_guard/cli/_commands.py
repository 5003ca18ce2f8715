"""All commands, in the order in which help lists them."""

from __future__ import annotations

from typing import Final

from ._adopting import ADOPT
from ._alerting import ALERTING
from ._amending import AMENDING
from ._command import Command
from ._completing import completion
from ._database import DATABASE_COMMANDS
from ._demo import DEMO
from ._doctor import DOCTOR
from ._failures import FAILURES
from ._looking import LOOKING
from ._parser import parser_of
from ._replaying import REPLAYING
from ._resolving import RESOLVING
from ._steering import STEERING
from ._stream import STREAM, UNTAINT
from ._verifying import VERIFY
from ._working import WORKER

__all__ = ["COMMANDS"]

COMMANDS: Final[tuple[Command, ...]] = (
    *LOOKING,
    STREAM,
    *FAILURES,
    *RESOLVING,
    *AMENDING,
    *STEERING,
    UNTAINT,
    *REPLAYING,
    VERIFY,
    *ALERTING,
    WORKER,
    DOCTOR,
    *DATABASE_COMMANDS,
    ADOPT,
    DEMO,
    completion(lambda: parser_of(COMMANDS)),
)
