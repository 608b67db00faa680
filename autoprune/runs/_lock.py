"""One process at a time per run folder, by an operating-system lock (``filelock``'s) that dies with its process."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from autoprune.errors import AutopruneError


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
        self._handle = -1
        self._lock = FileLock(
            path,
            blocking=False,
            thread_local=False,
            fallback_to_soft=False,
            preserve_lock_file=True,
            on_acquired=self._sign,
        )

    def __enter__(self) -> Lock:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise AutopruneError(
                f"The run folder '{self.path.parent}' is being written by another process (id {self._owner()}); "
                f"wait for it to end or choose another {self.option}."
            ) from error
        except OSError as error:
            raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def in_place(self) -> bool:
        """Whether the file that is locked is still the one at its path: false once its folder was moved away or deleted."""
        try:
            return self._lock.is_locked and os.path.samestat(os.lstat(self.path), os.fstat(self._handle))
        except OSError:
            return False

    def _sign(self, handle: int) -> None:
        self._handle = handle
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())

    def _owner(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")[:100].strip() or "unknown"
        except OSError:
            return "unknown"

    def _refused(self, error: OSError) -> AutopruneError:
        if self.path.is_symlink():
            return AutopruneError(
                f"Cannot lock the run folder '{self.path.parent}': '{self.path}' is a symbolic link, and nothing is written "
                "through one; remove it."
            )
        return AutopruneError(
            f"Cannot lock the run folder '{self.path.parent}': {error.strerror or error}. Choose a writable folder with space."
        )
