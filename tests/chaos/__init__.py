"""The library under faults, watched by an oracle that trusts nothing of it: `python -m tests.chaos --help`."""
