"""Where work runs that is too much for one process: in several on this machine, or on the workers of a Dask cluster."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, parent_process
from typing import TypeVar

from ecgscan_lite.files import reason

Task, Result = TypeVar("Task"), TypeVar("Result")

SCHEDULER_SECONDS, WORKER_SECONDS = 5, 30  # that a scheduler has to answer, and then to have a worker


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_pool(
    jobs: int, results: str, initializer: Callable[[], object] | None = None
) -> Iterator[futures.Executor]:
    """Processes on this machine, each of which calls `initializer` first; tasks not started at the end are cancelled.

    Raises:
        ValueError: a process died; the message says that finished `results`, such as "pages", are kept.
    """
    # spawned, not forked: the caller may have threads, and a fork would copy their locks
    with futures.ProcessPoolExecutor(jobs, get_context("spawn"), _initialize, (initializer,)) as executor:
        try:
            yield executor
        except BrokenProcessPool:
            raise ValueError(f"a process died (lack of memory?): try fewer jobs; finished {results} are kept") from None
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _initialize(initializer: Callable[[], object] | None) -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if initializer is not None:
        initializer()


def _exit_with_parent() -> None:
    """End this process with its parent: if the parent is killed, a worker would wait for tasks for ever."""
    parent_process().join()
    os._exit(1)


@contextmanager
def dask_cluster(scheduler: str, results: str) -> Iterator[futures.Executor]:
    """The workers of a Dask cluster, by its scheduler's address; a task whose worker is lost is given to another one.

    Raises:
        ValueError: Dask is not installed, no scheduler answers in 5 s, it has no worker in 30 s, or workers keep dying.
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
        raise ValueError(f"no Dask scheduler at {scheduler} ({reason(error)}); start one: `dask scheduler`") from None
    with _disabled_loggers("distributed.client", "tornado.application"), client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except OSError:  # a TimeoutError
            raise ValueError(f"{scheduler}: it has no workers; start some with `dask worker {scheduler}`") from None
        executor = client.get_executor(pure=False, retries=2)  # a failure may pass, such as that of a file server
        try:
            yield executor
        except KilledWorker:
            raise ValueError(f"workers keep dying, perhaps for lack of memory; finished {results} are kept") from None
        except (futures.CancelledError, ConnectionError):
            raise ValueError(f"{scheduler}: lost the scheduler; run this again, finished {results} are kept") from None
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _disabled_loggers(*names: str) -> Iterator[None]:
    """Disable loggers within the block: they print tracebacks of lost connections, which are reported in one line."""
    with ExitStack() as stack:
        for logger in map(logging.getLogger, names):
            stack.callback(setattr, logger, "disabled", logger.disabled)
            logger.disabled = True
        yield


def map_unordered(
    executor: futures.Executor, function: Callable[[Task], Result], tasks: Iterable[Task], max_pending: int
) -> Iterator[Result]:
    """Results of tasks as they complete; at most `max_pending` tasks exist at a time, which bounds their memory."""
    pending: set[futures.Future[Result]] = set()
    for task in tasks:
        pending.add(executor.submit(function, task))
        if len(pending) >= max_pending:
            done, pending = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in futures.as_completed(pending))
