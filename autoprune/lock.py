"""One process at a time per run folder, by an operating-system lock that dies with its process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

from autoprune.errors import AutopruneError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """An exclusive lock on a file, for a ``with`` statement.

    The file stays after the lock is gone and holds the process id of its last owner, for messages only: what counts is
    the lock of the operating system, which ends with its process, however that ends. So there are no stale locks.

    Args:
        path: The lock file; made if it is missing.
        option: What else can be chosen where it is held, for the message.

    Raises:
        AutopruneError: on entering, if another process holds the lock.
    """

    def __init__(self, path: Path, *, option: str = "--out") -> None:
        self.path = path
        self.option = option
        self._file: IO[str] | None = None

    def __enter__(self) -> Lock:
        file = self.path.open("a+", encoding="utf-8")
        try:
            _try_lock(file)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise AutopruneError(
                f"The run folder '{self.path.parent}' is being written by another process (id {owner}); "
                f"wait for it to end or choose another {self.option}."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
