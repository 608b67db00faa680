"""One process at a time per run folder, by an operating-system lock that dies with its process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from autoprune.errors import AutopruneError
from autoprune.support.files import open_own

if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _let_go() -> None:
    """Close the locks that a fork inherited: they are its parent's, and must not outlive it."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Lock:
    """An exclusive lock on a file, for a ``with`` statement.

    The file stays after the lock is gone and holds the process id of its last owner, for messages only: what counts is
    the lock of the operating system, which ends with its process, however that ends, whatever processes it forked. So there
    are no stale locks.

    Args:
        path: The lock file; made if it is missing.
        option: What else can be chosen where it is held, for the message.

    Raises:
        AutopruneError: on entering, if another process holds the lock, or the file cannot be written.
    """

    def __init__(self, path: Path, *, option: str = "--out") -> None:
        self.path = path
        self.option = option
        self._handle: int | None = None

    def __enter__(self) -> Lock:
        try:
            handle = open_own(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._refused(error) from error
        try:
            _try_lock(handle)
        except OSError as error:
            owner = os.read(handle, 100).decode("utf-8", "replace").strip() or "unknown"
            os.close(handle)
            raise AutopruneError(
                f"The run folder '{self.path.parent}' is being written by another process (id {owner}); "
                f"wait for it to end or choose another {self.option}."
            ) from error
        try:
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        except OSError as error:
            os.close(handle)
            raise self._refused(error) from error
        self._handle = handle
        _held.add(handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            _held.discard(self._handle)
            with suppress(OSError):
                os.close(self._handle)
            self._handle = None

    @property
    def in_place(self) -> bool:
        """Whether the file that is locked is still the one at its path: false once its folder was moved away or deleted."""
        if self._handle is None:
            return False
        try:
            here = self.path.stat(follow_symlinks=False)
        except OSError:
            return False
        own = os.fstat(self._handle)
        return (here.st_dev, here.st_ino) == (own.st_dev, own.st_ino)

    def _refused(self, error: OSError) -> AutopruneError:
        if self.path.is_symlink():
            return AutopruneError(
                f"Cannot lock the run folder '{self.path.parent}': '{self.path}' is a symbolic link, and nothing is written "
                "through one; remove it."
            )
        return AutopruneError(
            f"Cannot lock the run folder '{self.path.parent}': {error.strerror or error}. Choose a writable folder with space."
        )
