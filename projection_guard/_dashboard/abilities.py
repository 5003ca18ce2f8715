"""What an operator can do to a projection as it stands, and in words why not the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .._core.projection import Projection

__all__ = ["Able", "Act", "Cannot", "Standing", "able", "why_not_beside"]

Act = Literal["pause", "resume", "replay", "rebuild", "verify", "reset"]
_ACTS: Final[tuple[Act, ...]] = ("pause", "resume", "replay", "rebuild", "verify", "reset")
_OF_THE_LOG: Final = ("replay", "rebuild", "verify")
_NO_LOG: Final = (
    "the guard of this application has no source=, so the events cannot be read again; it only has those that were "
    "pushed to it"
)
_WRITES_ELSEWHERE: Final = (
    "its handler writes elsewhere than through the guard's connection, so nothing can be built beside what is there"
)
_NO_TABLES: Final = "it is registered without tables=[...], so the guard does not know which tables are its read model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a projection stands: the state on record, and whether a job of it has not ended."""

    state: str
    has_job: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cannot:
    """Acts that cannot be done, all for one reason."""

    acts: tuple[Act, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Able:
    """What can be done, in the order of the buttons, and what cannot. What makes no sense now is in neither."""

    can: tuple[Act, ...]
    cannot: tuple[Cannot, ...]

    def why_not(self, act: Act) -> str | None:
        """Say why something cannot be done; None where it can."""
        if act in self.can:
            return None
        return next((each.why for each in self.cannot if act in each.acts), "it is so already")


def able(projection: Projection, standing: Standing, *, has_log: bool) -> Able:
    """Say what can be done to a projection."""
    reasons: dict[Act, str | None] = {}
    for act in _ACTS:
        reasons[act] = _why_not(act, projection, standing, has_log=has_log)
    said: dict[str, list[Act]] = {}
    for act, why in reasons.items():
        if why:
            said.setdefault(why, []).append(act)
    return Able(
        can=tuple(act for act, why in reasons.items() if why is None),
        cannot=tuple(Cannot(acts=tuple(acts), why=why) for why, acts in said.items()),
    )


def _why_not(act: Act, projection: Projection, standing: Standing, *, has_log: bool) -> str | None:
    """Return None for what can be done, and an empty text for what nobody would miss."""
    if act in _OF_THE_LOG and not (has_log and projection.is_followed):
        return _NO_LOG
    if act == "verify" and why_not_beside(projection) is not None:
        return why_not_beside(projection)
    if act in ("pause", "resume") and standing.state in ("active", "paused"):
        return None if (act == "resume") == (standing.state == "paused") else ""
    if act == "resume":
        return ""
    if standing.has_job:
        return "a job of it is under way; wait for that, or cancel it"
    if standing.state == "resetting" and act != "reset":
        return "it is being reset"
    return None


def why_not_beside(projection: Projection) -> str | None:
    """Say why a read model cannot be built beside the live one; None where it can."""
    if not projection.joins:
        return _WRITES_ELSEWHERE
    return None if projection.tables else _NO_TABLES
