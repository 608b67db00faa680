"""Processes that score policies at the same time, for machines with more processors than one score can use.

Each worker is a fork of the process that set the problem up: model, images and statistics are shared, not built again. It
computes with one thread. A score is a function of the counts, so who computes it does not matter: a worker that is killed is
replaced, and its policy is given to the new one. A worker ends with its parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

import torch

from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Score

Counts = tuple[int, ...]
ORPHANED_S = 0.5
"""Seconds between two checks of a worker that its parent is still there."""
MOST_DEATHS = 3
"""Workers that may end over one policy before the search gives up."""


@dataclass(frozen=True)
class _Failure:
    """What scoring a policy raised, as text: not every exception can be made again in another process."""

    kind: str
    message: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        kind = next((own for own in (UsageError, AutopruneError) if isinstance(error, own)), type(error))
        return cls(kind.__name__, str(error), "".join(traceback.format_exception(error)).rstrip())

    def error(self, counts: Counts) -> AutopruneError:
        """Return an error of this package as it was raised, of any other its name and message."""
        own = {kind.__name__: kind for kind in (AutopruneError, UsageError)}
        why = " ".join(self.message.split()) or "no message"
        found = (
            own[self.kind](self.message)
            if self.kind in own
            else AutopruneError(f"Scoring the policy {list(counts)} raised {self.kind}: {why}")
        )
        found.add_note(f"In the worker:\n{self.trace}")
        return found


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    counts: Counts | None = None
    deaths: int = 0


class Workers:
    """A pool of scoring processes, for a ``with`` statement.

    Args:
        score: What scores a policy.
        count: How many processes.
    """

    def __init__(self, score: Callable[[Counts], Score], count: int) -> None:
        self._score = score
        self._count = count
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        self._workers = [self._started() for _ in range(self._count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers = []

    @property
    def free(self) -> bool:
        """Whether a worker has nothing to do."""
        return any(worker.counts is None for worker in self._workers)

    @property
    def busy(self) -> frozenset[Counts]:
        """The policies that are being scored."""
        return frozenset(worker.counts for worker in self._workers if worker.counts is not None)

    def submit(self, counts: Counts) -> None:
        """Give a policy to a free worker."""
        self._give(next(worker for worker in self._workers if worker.counts is None), counts)

    def wait(self) -> tuple[Counts, Score]:
        """Wait for the next score, and return it with its policy.

        Raises:
            AutopruneError: if worker after worker ends over one policy; and for what scoring it raised, with the worker's
                traceback as a note: an error of this package as it is, of any other its name and message.
        """
        while True:
            at_work = [worker for worker in self._workers if worker.counts is not None]
            wait([thing for worker in at_work for thing in (worker.connection, worker.process.sentinel)])
            for worker in at_work:
                if not worker.connection.poll() and worker.process.is_alive():
                    continue
                counts = worker.counts
                assert counts is not None
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker, counts)
                    continue
                worker.counts, worker.deaths = None, 0
                if isinstance(answer, _Failure):
                    raise answer.error(counts)
                return counts, answer

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        others = [worker.connection for worker in self._workers]
        arguments = (self._score, there, [here, *others], os.getpid())
        process = context.Process(target=_serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # Newer Pythons warn of forks beside threads: the child starts none, and torch computes with one.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        there.close()
        return _Worker(process, here)

    def _give(self, worker: _Worker, counts: Counts) -> None:
        worker.counts = counts
        try:
            worker.connection.send(counts)
        except OSError:
            self._replace(worker, counts)

    def _replace(self, worker: _Worker, counts: Counts) -> None:
        """Put a new process into a dead one's place and give it the same policy."""
        worker.process.join()
        worker.connection.close()
        if worker.deaths + 1 >= MOST_DEATHS:
            raise AutopruneError(
                f"{MOST_DEATHS} workers in turn ended while they scored the policy {list(counts)}, the last with code "
                f"{worker.process.exitcode}; if memory ran out, use fewer --workers."
            )
        fresh = self._started()
        worker.process, worker.connection, worker.deaths = fresh.process, fresh.connection, worker.deaths + 1
        self._give(worker, counts)


def _serve(score: Callable[[Counts], Score], connection: Connection, inherited: list[Connection], parent: int) -> None:
    """Score what comes in until the other end is closed: the life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):
        while True:
            counts = connection.recv()
            try:
                answer: Score | _Failure = score(counts)
            except Exception as error:
                answer = _Failure.of(error)
            connection.send(answer)


def _end_with(parent: int) -> None:
    """End this process once its parent has ended, in the middle of a score too."""
    while os.getppid() == parent:
        time.sleep(ORPHANED_S)
    os._exit(1)


def check_workers(count: int, device: str) -> None:
    """Refuse what cannot work.

    Args:
        count: How many workers.
        device: Where scores are computed.

    Raises:
        UsageError: if the count is none, or several were to share a GPU.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"The number of workers is {count!r}, but must be a whole number of at least 1.")
    if count > 1 and not device.startswith("cpu"):
        raise UsageError(f"Several workers score on the CPU, and the device is '{device}'; leave --workers out.")
    if count > 1 and "fork" not in multiprocessing.get_all_start_methods():
        raise UsageError("This system cannot fork processes, which several workers need; leave --workers out.")
