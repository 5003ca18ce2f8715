"""A document service that has a failure tracker of its own, and how it comes to this library: see docs/adopting.md.

Only the wiring differs: `wiring_before` has the tracker, `wiring_after` the guard. All else is as it was.
"""
