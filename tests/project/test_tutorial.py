"""Pages to be typed along with, the tutorial first, show what a person who does so really sees: see `walking`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.test_readme import PAGES, ROOT, blocks
from tests.project.walking import is_walked, walk

WALKED = [page for page in PAGES if page.exists() and is_walked(page.read_text(encoding="utf-8"))]


def test_the_tutorial_is_walked() -> None:
    """An empty list would make the test below pass for nothing."""
    assert ROOT / "docs" / "tutorial.md" in WALKED


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKED, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_is_seen(page: Path, tmp_path: Path) -> None:
    """Its files are saved and its commands run, in order, in one folder; every output is as shown."""
    differences = [str(each) for each in walk(page.read_text(encoding="utf-8"), tmp_path)]
    assert not differences, "\n".join(["", *differences])
    if page.name == "tutorial.md":
        ask_the_dashboard(tmp_path)


ASK = """\
from ops import app

client, address = app.test_client(), "/ops/dashboard/"
asked = client.get(address)
assert asked.status_code == 401 and "Basic" in asked.headers["WWW-Authenticate"], asked.status
assert client.get(address, headers={"Authorization": "Basic AAAA"}).status_code == 401
shown = client.get(address, auth=("you", "choose-one"))
assert shown.status_code == 200 and b"Trails" in shown.data and b"Bikes" in shown.data, shown.status
"""


def ask_the_dashboard(folder: Path) -> None:
    """Look at the dashboard of the tutorial as a browser would: it asks who is there, and shows the projections."""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK],
        cwd=folder,
        env={**os.environ, "OPS_PASSWORD": "choose-one"},
        check=True,
        timeout=60,
    )


WRONG = """\
<!-- file: greet.py -->
```python
def greet():
    print("hello")
```
<!-- file: greet.py, at its end -->
```python
greet()
print("0b9a4f0e-4f6e-4a9e-8f43-0a3d3c2f1d10 took 2 s")
```
```console
$ python greet.py
hello
11111111-2222-3333-4444-555555555555 took   17 s
```
<!-- file: greet.py, instead of greet -->
```python
def greet():
    print("good morning")
    raise SystemExit(3)
```
```console
$ export NAME=you
$ python greet.py
hello
$ echo $? $NAME 11111111-2222-3333-4444-555555555555
3 you 0b9a4f0e-4f6e-4a9e-8f43-0a3d3c2f1d10
```
"""


def test_a_wrong_output_is_found(tmp_path: Path) -> None:
    """Ids and durations may differ, and nothing else: here a page was not changed with its program."""
    (difference,) = walk(WRONG, tmp_path)
    assert (difference.command.words, difference.seen) == ("python greet.py", "good morning\n")
    assert "-hello" in str(difference)
    assert "+good morning" in str(difference)


def test_every_block_of_the_tutorial_is_done() -> None:
    """A block that nobody runs needs a reason, in a shell's language, too."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    idle = [
        f"line {block.starts}"
        for block in blocks(text)
        if block.language != "console" and not block.comment.startswith(("<!-- file: ", "<!-- not run: "))
    ]
    assert idle == []
