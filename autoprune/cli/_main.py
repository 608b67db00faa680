"""Entry point: runs a verb and turns whatever goes wrong into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NoReturn

from autoprune.cli._output import complain
from autoprune.cli._signals import INTERRUPTED, TERMINATED, ends_on_sigterm, stopped
from autoprune.errors import AutopruneError
from autoprune.registry import named_in, only
from autoprune.support.packages import require


def run() -> NoReturn:
    """Run the command line as a process, which ends with its exit code.

    After SIGTERM it ends at once: all is written by then, and taking interpreter and torch down takes seconds on a busy machine.
    """
    code = main()
    if code == TERMINATED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: something failed while it ran. 2: what was asked cannot be done. 130: interrupted by Ctrl-C. 143: ended by
    SIGTERM.

    Args:
        argv: The arguments; those of the process by default.
    """
    if (
        "torch" not in sys.modules
    ):  # its threads read this once; spinning ones make small networks crawl on a busy machine
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    named = named_in(arguments)
    try:
        require("The command line needs", "typer", "rich")
        from typer.main import get_command

        from autoprune.cli._app import app

        # Without a name to import, a file of the current folder is not to stand in for a package that is not installed.
        importable = _current_folder_importable() if named else nullcontext()
        with only(named, command=arguments), importable, ends_on_sigterm() as came:
            result = get_command(app).main(args=arguments, prog_name="autoprune", standalone_mode=False)
        if came.is_set() and result == INTERRUPTED:  # Typer makes an exit of any KeyboardInterrupt
            complain("Terminated.")
            return TERMINATED
        return result if isinstance(result, int) else 0
    except AutopruneError as error:
        if debug:
            raise
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt as stop:
        if debug:
            raise
        complain(f"{stopped(stop)[0]}.")
        return stopped(stop)[1]
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush on exit says nothing
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line was not understood; Typer's class for it is private
            context = getattr(error, "ctx", None)
            see = context.command_path if context else "autoprune"
            complain(f"{error.format_message().rstrip('.')}; see {see} --help.")
            return int(getattr(error, "exit_code", 2))
        if debug:
            raise
        reason = " ".join(str(error).split())[:300] or "no message"
        if isinstance(error, MemoryError) or "allocate memory" in reason or type(error).__name__ == "OutOfMemoryError":
            complain(f"There is not enough memory ({reason}); take smaller images or a smaller --batch-size.")
            return 1
        complain(f"Unexpected {type(error).__name__}: {reason}; run the same with --debug for the traceback.")
        return 1


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Let ``package.module:name`` find the user's own files, as with ``python -m``; what is installed comes first."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(here)
