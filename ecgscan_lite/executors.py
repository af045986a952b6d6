"""Where work runs when it is too much for one process: in several of this machine, or on the machines of a cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Task, Result = TypeVar("Task"), TypeVar("Result")

#: Seconds that a scheduler has to answer, and then to have a worker.
SCHEDULER_SECONDS, WORKER_SECONDS = 5, 30
#: Times that a task is given to another worker when it fails for a reason that may pass, such as a file server's.
RETRIES = 2


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_pool(jobs: int, kept: str, start: Callable[..., Any] | None = None, *arguments: Any) -> Iterator[Executor]:
    """Processes of this machine; what waits is given up when the block is left, and none outlives this process.

    Args:
        jobs: how many.
        kept: what a run has finished and another need not do again, for the message.
        start: called in each process before anything else, with the arguments.

    Raises:
        ValueError: a process died.
    """
    # spawned, not forked: the caller may have threads, and a fork would copy their locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start, (start, arguments)) as executor:
        try:
            yield executor
        except BrokenProcessPool:
            raise ValueError(
                f"a process died, perhaps for lack of memory: run this again with fewer jobs; finished {kept} are kept"
            ) from None
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _start(start: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    """A worker would outlive a parent that is killed, waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def dask_cluster(scheduler: str, kept: str) -> Iterator[Executor]:
    """The workers of a Dask cluster; a task whose worker is lost is given to another.

    Args:
        scheduler: its address, such as `tcp://10.0.0.1:8786`.
        kept: what a run has finished and another need not do again, for the message.

    Raises:
        ValueError: Dask is not installed, the scheduler does not answer in 5 s or has no worker after 30 s, or workers
            are lost again and again.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise ValueError("a cluster needs Dask, which is not installed: pip install 'ecgscan_lite[cluster]'") from None
    if not scheduler:
        raise ValueError("scheduler is empty: give the address of one, such as tcp://10.0.0.1:8786")
    try:
        client = Client(scheduler, timeout=SCHEDULER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"no Dask scheduler at {scheduler} ({reason}); start one with `dask scheduler`") from None
    with _silent("distributed.client", "tornado.application"), client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except OSError:  # a TimeoutError
            raise ValueError(f"{scheduler}: it has no workers; start some with `dask worker {scheduler}`") from None
        executor = client.get_executor(pure=False, retries=RETRIES)
        try:
            yield executor
        except KilledWorker:
            raise ValueError(
                f"workers died one after another, perhaps for lack of memory; finished {kept} are kept"
            ) from None
        except (CancelledError, ConnectionError):
            raise ValueError(f"{scheduler}: the scheduler is gone; run this again, finished {kept} are kept") from None
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _silent(*loggers: str) -> Iterator[None]:
    """Keep loggers from printing tracebacks of connections that end, which the caller says in one line."""
    before = {logger: logger.disabled for logger in map(logging.getLogger, loggers)}
    try:
        for logger in before:
            logger.disabled = True
        yield
    finally:
        for logger, disabled in before.items():
            logger.disabled = disabled


def as_they_end(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], most: int
) -> Iterator[Result]:
    """Results in the order in which they come; `most` of the tasks exist at a time, which bounds their memory."""
    waiting: set[Future[Result]] = set()
    for task in tasks:
        if len(waiting) >= most:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
        waiting.add(executor.submit(function, task))
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)
