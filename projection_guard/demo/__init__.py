"""The demo: an event-sourced document service, small enough to read, and a script of what goes wrong in it.

A store, events, read models, and faults that can be switched on: `_script` plays with them, `serving` keeps
them open in a browser.
"""

from __future__ import annotations

from ._script import Demonstrated, Place, add_options, demonstrate, main, place_of
from .serving import Unserved, serve

__all__ = ["Demonstrated", "Place", "Unserved", "add_options", "demonstrate", "main", "place_of", "serve"]
