"""The demo: an event-sourced document service, small enough to read, and a script of what goes wrong in it.

A store, events, read models, and faults that can be switched on: `_script` plays with them.
"""

from __future__ import annotations

from ._script import Demonstrated, add_options, demonstrate, main

__all__ = ["Demonstrated", "add_options", "demonstrate", "main"]
