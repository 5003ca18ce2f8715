"""A process that has imported the command line, and whose children run it: an interpreter's start costs a second.

Each line of standard input is an order in JSON: words, env, cwd, and files for standard input, output and error. It is
answered with the child's exit code; -2 where a signal 2 ended it.
"""

from __future__ import annotations

import json
import os
import sys

import tests.cli.shop  # noqa: F401  # its imports are what takes time; the children have it from here
from projection_guard.cli import main
from projection_guard.migrations._revisions import revisions

sys.modules.pop("tests.cli.shop")  # each child imports it anew, with an environment of its own


def _child(order: dict[str, object]) -> None:
    for number, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(str(order[name]), flags, 0o600), number)
    sys.stdin = os.fdopen(0)
    env = order["env"]
    assert isinstance(env, dict)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(order["cwd"]))
    words = order["words"]
    assert isinstance(words, list)
    sys.argv = ["projection-guard", *words]
    code: int = 70
    try:
        code = main()
    except SystemExit as ended:  # --help, --version
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _run() -> None:
    revisions()
    _tell("ready")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        _, status = os.waitpid(pid, 0)
        _tell(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    _run()
