"""The disk below SQLite, in this process: at the n-th write the process is killed, or the write is refused.

SQLite lets its own tests replace the system calls that it makes, by name; so do we, by ctypes, in the very library
that Python's sqlite3 uses: no debugger and no compiler is needed. A sync has no such name: the file's method is
replaced. Where `Disk.found()` is False, that library shows no such functions.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
import signal
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["Deed", "Disk"]

Deed = Literal["kill", "full", "broken"]
_OK = 0
_IOERR_FSYNC = 10 | 4 << 8
_OPENING = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_int, ctypes.c_void_p)
_SYNCING = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_CALLS: dict[str, tuple[Any, ...]] = {
    "write": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t),
    "pwrite": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "pwrite64": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "ftruncate": (ctypes.c_int, ctypes.c_int, ctypes.c_int64),
}


class _Vfs(ctypes.Structure):
    """SQLite's `sqlite3_vfs`, as its header has it."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("following", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("own", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("between", ctypes.c_void_p * 12),
        ("set_system_call", ctypes.c_void_p),
        ("get_system_call", ctypes.c_void_p),
    ]


_Methods = ctypes.c_void_p * 19
"""`sqlite3_io_methods`: the version, and eighteen functions."""
_SYNC = 5


def _default_vfs() -> Any:
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    find = library.sqlite3_vfs_find
    find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
    return find(None)


class Disk:
    """The disk of all SQLite files of this process. Make it before the first one is opened.

    `kill`: the process dies right before the write. `full`: it and all later ones fail with ENOSPC, until `mend()`.
    `broken`: it alone fails with EIO.
    """

    def __init__(self, deed: Deed) -> None:
        self._deed = deed
        self._at = 0
        self._seen = 0
        self._kept: list[Any] = []  # SQLite has their addresses
        self._vfs = _default_vfs()
        for name, signature in _CALLS.items():
            self._replace_call(name, signature)
        self._replace_sync()

    @staticmethod
    def found() -> bool:
        """Return whether SQLite can be reached."""
        try:
            return bool(_default_vfs().contents.version >= 3)
        except (AttributeError, OSError, ValueError):
            return False

    def break_at(self, at: int) -> None:
        """Break the `at`-th write from now on."""
        self._at, self._seen = at, 0

    def mend(self) -> int:
        """Break nothing any more; return how many writes there were."""
        self._at, seen = 0, self._seen
        return seen

    def _is_refused(self) -> bool:
        if not self._at:
            return False
        self._seen += 1
        if self._deed == "full":
            return self._seen >= self._at
        if self._seen != self._at:
            return False
        if self._deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    def _replace_call(self, name: str, signature: tuple[Any, ...]) -> None:
        vfs = self._vfs.contents
        kind = ctypes.CFUNCTYPE(*signature, use_errno=True)
        get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(vfs.get_system_call)
        address = get(ctypes.addressof(vfs), name.encode())
        if address is None:  # this SQLite was built to use another one
            return
        real: Callable[..., int] = kind(address)

        def call(*arguments: Any) -> int:
            if self._is_refused():
                ctypes.set_errno(errno.ENOSPC if self._deed == "full" else errno.EIO)
                return -1
            return int(real(*arguments))

        replaced = kind(call)
        self._kept.append(replaced)
        put = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(vfs.set_system_call)
        assert put(ctypes.addressof(vfs), name.encode(), ctypes.cast(replaced, ctypes.c_void_p)) == _OK

    def _replace_sync(self) -> None:
        vfs = self._vfs.contents
        open_file = _OPENING(vfs.open or 0)

        def opening(this: int, name: int, file: int, flags: int, flags_out: int) -> int:
            result = int(open_file(this, name, file, flags, flags_out))
            methods = ctypes.c_void_p.from_address(file)  # the first thing in a sqlite3_file
            if result == _OK and methods.value:
                methods.value = self._with_sync(methods.value)
            return result

        replaced = _OPENING(opening)
        self._kept.append(replaced)
        vfs.open = ctypes.cast(replaced, ctypes.c_void_p)

    def _with_sync(self, address: int) -> int:
        """Return where a copy of a file's methods is, with a sync of ours."""
        methods = _Methods.from_buffer_copy((_Methods).from_address(address))
        sync_file = _SYNCING(methods[_SYNC] or 0)

        def syncing(file: int, flags: int) -> int:
            return _IOERR_FSYNC if self._is_refused() else int(sync_file(file, flags))

        replaced = _SYNCING(syncing)
        methods[_SYNC] = ctypes.cast(replaced, ctypes.c_void_p).value
        self._kept += [methods, replaced]
        return ctypes.addressof(methods)
