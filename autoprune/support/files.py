"""Files that are never half written: temporary file in the same folder, fsync, rename, fsync of the folder.

Nothing is created or cut through a symbolic link, and nothing is read that may never end.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autoprune.errors import AutopruneError, UsageError

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Flag for opening what we create, append to or cut: a symbolic link in its place is refused."""
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
_FROM_A_SHELL = re.compile(r"/dev/(fd/\d+|stdin)|/proc/(self|\d+)/fd/\d+")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise AutopruneError(
                f"Cannot write '{path}': it is a symbolic link, and nothing is written through one; put a file there or "
                "remove it."
            ) from error
        why = error.strerror or str(error)
        raise AutopruneError(f"Cannot write '{path}': {why}. Choose a writable folder with space.") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each of them synced into its parent.

    Raises:
        AutopruneError: if it cannot be made.
    """
    with _writing(folder):
        _make_folder(folder)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def try_folder(folder: Path) -> None:
    """Make a folder if need be, and a file in it, which is removed again.

    Raises:
        OSError: if that is not possible.
    """
    _make_folder(folder)
    probe = folder / f".write-test.{secrets.token_hex(4)}.tmp"
    os.close(open_own(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    probe.unlink()


def is_temporary(name: str, of: Collection[str] | None = None) -> bool:
    """Whether a file's name is one that a write uses until it is done; of one of some files, where these are given."""
    found = _TEMPORARY.fullmatch(name)
    return found is not None and (of is None or found[1] in of)


def remove_temporaries(folder: Path, of: Collection[str] | None = None) -> None:
    """Remove the temporary files that a killed process left in a folder and below.

    Args:
        folder: The folder; it need not exist.
        of: Only those of files with these names, in the folder itself; None for all.

    Raises:
        AutopruneError: if one cannot be removed.
    """
    for path in folder.rglob("*.tmp") if of is None else folder.glob("*.tmp"):
        if is_temporary(path.name, of):
            with _writing(path):
                path.unlink(missing_ok=True)


def refuse_links(folder: Path, names: Collection[str] | None = None) -> None:
    """Refuse symbolic links among what a process will write.

    Args:
        folder: The folder.
        names: What will be written in it, files and folders; None for anything.

    Raises:
        UsageError: naming the link.
    """
    for path in sorted(folder.iterdir()):
        if names is not None and path.name not in names:
            continue
        if path.is_symlink():
            raise UsageError(
                f"'{path}' is a symbolic link, and nothing is written through one; put the file or folder itself there, or "
                "remove the link."
            )
        if path.is_dir():
            refuse_links(path)


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours for writing, never through a symbolic link; made where ``os.O_CREAT`` says so.

    Args:
        path: The file.
        flags: As for ``os.open``.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        OSError: if it cannot be opened, or is a symbolic link.
    """
    if not NO_LINK and path.is_symlink():
        raise OSError(f"'{path}' is a symbolic link")
    return os.open(path, flags | NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Some file systems cannot sync a folder; the rename itself has happened.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file under a temporary name, then put it in the place of ``path`` in one step.

    Folders that are missing are made. On failure ``path`` is what it was.

    Raises:
        AutopruneError: if the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with _writing(path):
        _make_folder(path.parent)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        try:
            os.close(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            mode = temporary.stat().st_mode
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(mode)  # What the umask says, whatever ``write`` made of it.
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def write_bytes_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes atomically; see `write_atomic`."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; see `write_atomic`."""
    write_bytes_atomic(path, text.encode("utf-8"))


def append_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Append bytes to a file, which is made if need be, and force them to the disk before returning.

    Raises:
        AutopruneError: if it cannot be written.
    """
    path = Path(path)
    with _writing(path):
        _make_folder(path.parent)
        new = not path.exists()
        handle = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            _write_all(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            _sync_folder(path.parent)


def cut_file(path: Path, size: int) -> None:
    """Leave the first ``size`` bytes of a file, on the disk before returning.

    Raises:
        AutopruneError: if it cannot be written.
    """
    with _writing(path):
        handle = open_own(path, os.O_RDWR)
        try:
            os.ftruncate(handle, size)
            os.fsync(handle)
        finally:
            os.close(handle)


def read_regular(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        OSError: if it cannot be read, or is a pipe or a device, which may never end (but for a shell's: ``<(command)``).
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or _FROM_A_SHELL.fullmatch(str(path))):
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.read_bytes()
