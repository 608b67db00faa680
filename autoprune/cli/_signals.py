"""SIGTERM, what job schedulers and containers send before they kill: a clean end, within seconds whatever is being computed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from autoprune.cli._output import say

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM, 143."""
PATIENCE_S = 4.0
"""Seconds that a clean end may take; then the process ends as it is, which costs no more than a kill: files are never half
written."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came; caught where Ctrl-C is."""


def stopped(by: KeyboardInterrupt) -> tuple[str, int]:
    """Return the word for what stopped a verb, and its exit code."""
    return ("Terminated", TERMINATED) if isinstance(by, Terminated) else ("Interrupted", INTERRUPTED)


@contextmanager
def ends_early(stop: threading.Event, begun: Callable[[], bool]) -> Iterator[None]:
    """Let the first Ctrl-C end a search with the best so far, and the second stop it at once.

    Args:
        stop: Set by the first.
        begun: Whether there is something to end with; if not, the first Ctrl-C stops at once too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set() or not begun():
            raise KeyboardInterrupt
        stop.set()
        say("Ending with the best so far; Ctrl-C again stops at once.")

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


_installed = False


@contextmanager
def ends_on_sigterm() -> Iterator[threading.Event]:
    """Raise `Terminated` in the main thread when SIGTERM comes, and end the process if that does not end it.

    What it gives is set once SIGTERM came, whoever catches the exception.

    Python's handlers run only between two of its instructions, not while an operator computes; so a thread waits for the signal
    too. Processes that are forked meanwhile end at once, as they do without a handler.
    """
    global _installed
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event()
        return
    came = threading.Event()
    come, gone = socket.socketpair()
    gone.setblocking(False)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(come, ended), daemon=True).start()

    def terminate(number: int, frame: FrameType | None) -> None:
        came.set()
        raise Terminated

    previous, wakeup = signal.signal(signal.SIGTERM, terminate), signal.set_wakeup_fd(gone.fileno())
    _installed = True
    try:
        yield came
    finally:
        _installed = False
        ended.set()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, previous)
        gone.close()


def _watch(come: socket.socket, ended: threading.Event) -> None:
    """Wait for SIGTERM's number, or for the end of what it interrupts."""
    with come:
        while numbers := come.recv(64):
            if signal.SIGTERM in numbers and not ended.wait(PATIENCE_S):
                os._exit(TERMINATED)


def _forked() -> None:
    """Give a fork the usual SIGTERM: what it is sent is not its parent's."""
    if _installed:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
