"""Tests of the project itself; `conftest.py` marks them `project`."""
