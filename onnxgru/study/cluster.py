"""Candidates evaluated on a Dask cluster.

What evaluates is pickled once and becomes the result of a task of its own, which every worker
fetches once; each genome is a task that depends on it. Tasks depend on nothing else, so what is
lost with a worker is computed again on another one, as long as there is a scheduler.
"""

import asyncio
import logging
import pickle
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

from onnxgru.core import install
from onnxgru.core.entrypoint import is_entrypoint, load_entrypoint
from onnxgru.core.errors import ClusterError, OnnxgruError, UsageError
from onnxgru.events import Listener, Notice, Stage
from onnxgru.report.record import versions
from onnxgru.search.front import Member
from onnxgru.search.genome import Genome

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 4.0
"""Seconds that a scheduler has to answer."""

LOOK = 2.0
"""Seconds between two looks at whether there still are workers."""

TRIES = 5
"""How often a candidate is tried that Dask has given up: by default after four workers died."""

Evaluate = Callable[[Genome], Member]


class Cluster:
    """Workers of a Dask scheduler, as `onnxgru.search.nsga.Workers`; made by `connect`."""

    def __init__(self, client: "Client", address: str, listener: Listener) -> None:
        self._client, self._address, self._listener = client, address, listener
        self._sent: dict[Evaluate, Future] = {}
        self._lost = False

    def map(self, evaluate: Evaluate, genomes: Sequence[Genome], /) -> Iterator[Member]:
        """Members of genomes, in the genomes' order.

        Parameters
        ----------
        evaluate : callable
            Can be pickled, and depends on the genome alone.
        genomes : sequence of Genome
            All are begun at once; those whose members nobody takes are cancelled.

        Raises
        ------
        ClusterError
            If the scheduler is lost, a candidate makes one worker after another die, or a worker
            that has joined has other versions.
        OnnxgruError
            What `evaluate` raises; the sentence begins with the worker's address.
        """
        if not genomes:
            return iter(())
        with self._connected():
            if evaluate not in self._sent:
                self._send(evaluate)
            return self._members(self._client.map(_evaluated, genomes, sent=self._sent[evaluate]))

    def _send(self, evaluate: Evaluate) -> None:
        self._listener(Stage(f"evaluating on {self._described()}"))
        content = pickle.dumps((versions(), evaluate))
        with warnings.catch_warnings():  # a graph of megabytes, once, is what is meant
            warnings.simplefilter("ignore")
            self._sent[evaluate] = self._client.submit(pickle.loads, content)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Say in one way that the scheduler is gone, which Dask says in many."""
        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError

        try:
            yield
        except (CommClosedError, ClosedClientError, CancelledError) as error:
            raise ClusterError(
                f"scheduler {self._address}: the connection to it was lost; start it again, with "
                "workers, and go on with --resume"
            ) from error

    def _members(self, futures: Sequence["Future"]) -> Iterator[Member]:
        waiting = deque(futures)
        try:
            while waiting:
                with self._connected():
                    member = self._member(waiting[0])
                yield member
                waiting.popleft()
        finally:
            if waiting and self._client.status == "running":
                self._client.cancel(list(waiting))

    def _member(self, future: "Future") -> Member:
        """The result of a task, however many workers it takes."""
        from distributed import KilledWorker

        for left in reversed(range(TRIES)):
            try:
                return self._result(future)
            except KilledWorker:
                if left:
                    future.retry()
            except ModuleNotFoundError as error:
                raise ClusterError(
                    f"scheduler {self._address}: a worker cannot import {error.name}; install "
                    "onnxgru there and go on with --resume"
                ) from error
        raise ClusterError(
            f"scheduler {self._address}: workers die of a candidate again and again, mostly for "
            "want of memory; give them more of it, or fewer threads, and go on with --resume"
        )

    def _result(self, future: "Future") -> Member:
        """What a task found; where a worker dies before it has sent that, it is found again."""
        while True:
            self._wait(future)
            try:
                member: Member = future.result(timeout=LOOK)
                return member
            except TimeoutError:
                if future.status == "error":  # the task's own
                    raise
                self._look()

    def _wait(self, future: "Future") -> None:
        """Wait for a task, and say so if nobody is left to compute it."""
        from distributed import wait

        while not future.done():
            try:
                with self._client.as_current():
                    wait([future], timeout=LOOK)
            except TimeoutError:
                self._look()

    def _look(self) -> None:
        lost = not self._client.nthreads()
        if lost and not self._lost:
            self._listener(
                Notice(
                    f"no worker is left at {self._address}: the search waits for one; Ctrl-C ends "
                    "it with the front so far"
                )
            )
        elif self._lost and not lost:
            self._listener(Stage(f"evaluating on {self._described()}"))
        self._lost = lost

    def _described(self) -> str:
        threads: Mapping[str, int] = self._client.nthreads()
        return (
            f"{_counted(len(threads), 'worker')}, {_counted(sum(threads.values()), 'thread')} "
            f"at {self._address}"
        )


@contextmanager
def connect(address: str, metric: str, listener: Listener) -> Iterator[Cluster]:
    """Connect to a scheduler, and check its workers.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.
    metric : str
        If it is ``package.module:function``, every worker must be able to import it.
    listener : callable
        Is told where candidates are evaluated, and when no worker is left.

    Yields
    ------
    Cluster
        Its tasks are cancelled at the end.

    Raises
    ------
    UsageError
        If Dask is not installed, or the address or the metric is wrong.
    ClusterError
        If there is no scheduler or no worker, or versions are others.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            f"--scheduler needs Dask, which is not installed; {install.hint('distributed')}"
        ) from error
    with ExitStack() as stack:
        stack.enter_context(_silent())
        with ThreadPoolExecutor(1) as thread:  # there may be an event loop in this one
            thread.submit(asyncio.run, _greet(address)).result()
        try:
            client = stack.enter_context(
                Client(address, timeout=PATIENCE, set_as_default=False, name="onnxgru")
            )
        except OSError as error:
            raise _unreachable(address) from error
        _check(client, address, metric)
        yield Cluster(client, address, listener)


async def _greet(address: str) -> None:
    """Ask who is there, in a limited time: not everything that listens is a scheduler."""
    from distributed import rpc
    from distributed.security import Security

    async def identity() -> Mapping[str, Any]:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as peer:
            found: Mapping[str, Any] = await peer.identity()
            return found

    try:
        found = await asyncio.wait_for(identity(), PATIENCE)
    except ValueError as error:
        raise UsageError(f"scheduler {address}: is no address of Dask: {error}") from error
    except (OSError, TimeoutError) as error:
        raise _unreachable(address) from error
    if found.get("type") != "Scheduler":
        raise ClusterError(
            f"scheduler {address}: must be a Dask scheduler, it is a {found.get('type')}; give the "
            "address that dask scheduler prints"
        )


def _check(client: "Client", address: str, metric: str) -> None:
    """Refuse workers whose results could differ, before they are given anything."""
    try:
        client.run_on_scheduler(metadata.version, "onnxgru")  # tasks pass through it
    except metadata.PackageNotFoundError as error:
        raise _uninstalled(f"scheduler {address}") from error
    if not client.nthreads():
        raise ClusterError(
            f"scheduler {address}: must have workers, it has none; start some with dask worker "
            f"{address}"
        )
    for worker, found in _asked(client, metadata.version, "onnxgru").items():
        if isinstance(found, Exception):
            raise _uninstalled(f"worker {worker}")
        _compare(worker, {"onnxgru": versions()["onnxgru"]}, {"onnxgru": found})
    for worker, found in _asked(client, versions).items():
        _compare(worker, versions(), found)
    if is_entrypoint(metric):
        for worker, found in _asked(client, _import, metric).items():
            if isinstance(found, Exception):
                raise UsageError(f"worker {worker}: {found}")


def _asked(client: "Client", function: Callable[..., Any], *arguments: str) -> dict[str, Any]:
    """What a function gives on every worker, or the exception that it raises there."""
    found: dict[str, Any] = client.run(function, *arguments, on_error="return")
    return found


def _import(name: str) -> None:
    """See that a user's function can be imported on a worker, where it stays."""
    load_entrypoint(name)


def _compare(worker: str, ours: Mapping[str, str], theirs: Mapping[str, str] | Exception) -> None:
    if isinstance(theirs, Exception):
        raise _uninstalled(f"worker {worker}") from theirs
    for name, version in ours.items():
        if theirs.get(name) != version:
            raise ClusterError(
                f"worker {worker}: must have {name} {version} as this process has, or results "
                f"could differ; it has {theirs.get(name)}: install the same there"
            )


def _evaluated(genome: Genome, sent: tuple[Mapping[str, str], Evaluate]) -> Member:
    """Evaluate a genome on a worker, which may have joined after the others were checked."""
    from distributed import get_worker

    ours, evaluate = sent
    worker = get_worker().address
    _compare(worker, ours, versions())
    try:
        return evaluate(genome)
    except OnnxgruError as error:
        raise type(error)(f"worker {worker}: {error}") from error


def _uninstalled(where: str) -> ClusterError:
    return ClusterError(
        f"{where}: cannot import onnxgru; install onnxgru and Dask (distributed) there, of the "
        "same versions"
    )


def _unreachable(address: str) -> ClusterError:
    return ClusterError(
        f"scheduler {address}: no Dask scheduler answers there; start one with dask scheduler, and "
        "give the address that it prints"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Dask's own log off stderr: what a user should know comes as an event or error."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
