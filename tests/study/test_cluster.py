"""Searches on a Dask cluster: a real scheduler with worker processes on this machine."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onnxgru import api
from onnxgru.cli import main
from onnxgru.core.errors import ClusterError, DataError
from onnxgru.events import Notice, Searched, Stage
from onnxgru.report.record import versions
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study import cluster
from onnxgru.study.study import Study
from tests.badfiles import CALLABLES
from tests.journeys import MODELS, copy_digits, unfolded

pytestmark = pytest.mark.slow

COSTS = Path(__file__).parents[2] / "docs" / "costs"
SHORT = {"search": True, "population": 8, "generations": 3, "verify": 2}


USUAL = "import onnxruntime, onnxgru.runtime.fused, onnxgru.study.problem"
BARE = """
import importlib.metadata
sys.modules["onnxgru"] = None
def version(name, found=importlib.metadata.version):
    if name == "onnxgru":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
version.__module__ = "importlib.metadata"
"""
"""What a process of Dask begins with where onnxgru is not installed."""

FORKS = """
import json, os, signal, sys
{}
from distributed.cli import dask_scheduler, dask_worker
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    what, arguments = json.loads(line)
    process = os.fork()
    if not process:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        {{"scheduler": dask_scheduler, "worker": dask_worker}}[what].main(arguments)
    print(process, flush=True)
"""
"""A process that has imported everything once, and is copied for every scheduler and worker."""


class Machines:
    """A scheduler that gives a task up when its worker dies, and workers to start and kill."""

    def __init__(self, folder: Path, *, bare: bool = False) -> None:
        self._folder = folder
        self._workers: list[int] = []
        self._file = folder / "scheduler.json"
        with (folder / "log.txt").open("a") as log:
            self._forks = subprocess.Popen(
                [sys.executable, "-c", FORKS.format(BARE if bare else USUAL)],
                cwd=folder,
                env={**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._scheduler = self._start("scheduler", "--scheduler-file", self._file, "--port", "0")
        self.address = self._until(self._address)

    def _start(self, what: str, *arguments: object) -> int:
        """Start a process, and return its number."""
        given = ["--host", "127.0.0.1", "--no-dashboard", *map(str, arguments)]
        self._forks.stdin.write(json.dumps([what, given]) + "\n")
        self._forks.stdin.flush()
        return int(self._forks.stdout.readline())

    def _address(self) -> str:
        try:
            return json.loads(self._file.read_text())["address"]
        except (OSError, ValueError):
            return ""

    def _until(self, wanted: Callable[[], object]) -> object:
        for _ in range(300):
            found = wanted()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError((self._folder / "log.txt").read_text())

    def client(self):
        from distributed import Client

        return Client(self.address, set_as_default=False)

    def begin(self) -> None:
        """Start a worker."""
        options = ("--no-nanny", "--nthreads", "1")
        self._workers.append(self._start("worker", self.address, *options))

    def staff(self, count: int) -> None:
        """See to it that there are so many workers."""
        self._workers = [worker for worker in self._workers if lives(worker)]
        while len(self._workers) < count:
            self.begin()
        while len(self._workers) > count:
            self.kill()
        with self.client() as client:
            self._until(lambda: len(client.nthreads()) == count)

    def kill(self) -> None:
        """End a worker as a machine does that goes away."""
        self._end(self._workers.pop())

    def _end(self, process: int) -> None:
        if lives(process):
            os.kill(process, signal.SIGKILL)
        self._until(lambda: not lives(process))

    def idle(self) -> bool:
        """Whether every task is gone."""
        with self.client() as client:
            return not any(client.processing().values()) and not any(client.has_what().values())

    def close(self) -> None:
        for process in (*self._workers, self._scheduler):
            self._end(process)
        self._forks.communicate()


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    (folder / "onworker.py").write_text(
        f"{CALLABLES}\ndef deadly(*_):\n    __import__('os')._exit(1)\n"
    )
    found = Machines(folder)
    try:
        found.begin()
        found.begin()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return copy_digits(tmp_path_factory.mktemp("cluster"), 60)


@pytest.fixture(scope="module")
def local(model, tmp_path_factory) -> Path:
    """The folder of the search that all others must equal."""
    folder = tmp_path_factory.mktemp("local") / "out"
    return api.quantize(model, Config(output=folder, **SHORT)).folder


def same(folder: Path, local: Path) -> None:
    for name in ("front.json", "journal.jsonl", "integer.onnx"):
        assert (folder / name).read_bytes() == (local / name).read_bytes(), name


def arguments(model: Path, folder: Path, address: str) -> list[str]:
    sizes = ["--search", "--population", "8", "--generations", "3", "--verify", "2"]
    return ["quantize", str(model), "-o", str(folder), *sizes, "--scheduler", address]


def test_front_is_that_of_a_local_search(machines, model, local, tmp_path, capsys):
    machines.staff(2)
    assert main(arguments(model, tmp_path / "out", machines.address)) == 0
    same(tmp_path / "out", local)
    lines = unfolded(capsys.readouterr().err).splitlines()
    assert f"evaluating on 2 workers, 2 threads at {machines.address} ..." in lines
    assert [n for n in lines if not n.endswith(" ...") and not n.startswith("generation ")] == []


def test_search_goes_on_elsewhere(machines, model, local, tmp_path):
    machines.staff(2)
    lines = (local / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines[:12]))
    settings = {"resume": True, "scheduler": machines.address}
    api.quantize(model, Config(output=tmp_path, **settings, **SHORT))
    same(tmp_path, local)


def test_workers_may_die(machines, model, local, tmp_path, monkeypatch):
    """One in the middle of a generation, then all that are left; another one joins."""
    monkeypatch.setattr(cluster, "LOOK", 0.5)
    machines.staff(2)
    told: list[str] = []

    def listener(event: object) -> None:
        if isinstance(event, Searched) and event.progress.evaluations in (5, 14):
            machines.kill()
        if isinstance(event, Notice):
            told.append(event.text)
            machines.begin()
        if isinstance(event, Stage):
            told.append(event.text)

    settings = Config(output=tmp_path / "out", scheduler=machines.address, **SHORT)
    api.quantize(model, settings, listener=listener)
    same(tmp_path / "out", local)
    (notice,) = (text for text in told if "no worker is left" in text)
    assert machines.address in notice
    after = told[told.index(notice) + 1]
    assert after == f"evaluating on 1 worker, 1 thread at {machines.address}"


class Lost:
    """A task that is done, whose result went with its worker the first time it is asked for."""

    status = "finished"

    def __init__(self) -> None:
        self.asked = 0

    def done(self) -> bool:
        return True

    def result(self, timeout: float) -> str:
        self.asked += 1
        if self.asked == 1:
            raise TimeoutError
        return "found"


def test_a_worker_may_die_with_a_result(monkeypatch):
    looked = []
    monkeypatch.setattr(cluster.Cluster, "_look", lambda _self: looked.append(True))
    made = object.__new__(cluster.Cluster)
    future = Lost()
    assert made._member(future) == "found"
    assert (future.asked, looked) == (2, [True])
    future = Lost()
    future.status = "error"
    with pytest.raises(TimeoutError):
        made._member(future)


def test_interrupted_search_leaves_the_front_and_no_task(machines, model, local, tmp_path):
    machines.staff(2)

    def listener(event: object) -> None:
        if isinstance(event, Searched) and event.progress.evaluations == 12:
            raise KeyboardInterrupt

    settings = Config(output=tmp_path / "out", scheduler=machines.address, **SHORT)
    with pytest.raises(KeyboardInterrupt):
        api.quantize(model, settings, listener=listener)
    assert (tmp_path / "out" / "front.json").is_file()
    journal = (tmp_path / "out" / "journal.jsonl").read_bytes()
    assert len(journal.splitlines()) == 1 + 12
    assert (local / "journal.jsonl").read_bytes().startswith(journal)
    machines._until(machines.idle)


@pytest.mark.parametrize(
    ("metric", "kind", "sentence"),
    [
        ("broken", DataError, r"^worker tcp://\S+: .*onworker:broken.*ZeroDivisionError"),
        (
            "deadly",
            ClusterError,
            r"^scheduler tcp://\S+: workers die of a candidate again and again",
        ),
    ],
)
def test_failures_on_a_worker(machines, model, tmp_path, monkeypatch, metric, kind, sentence):
    """The metric is a harmless one here: what is raised comes from the worker."""
    machines.staff(2)
    monkeypatch.setattr(cluster, "TRIES", 2)
    monkeypatch.setattr(cluster, "LOOK", 0.5)

    def listener(event: object) -> None:
        if isinstance(event, Notice) and "no worker is left" in event.text:
            machines.begin()

    monkeypatch.delitem(sys.modules, "onworker", raising=False)
    (tmp_path / "onworker.py").write_text(f"def {metric}(outputs, labels):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    settings = Config(scheduler=machines.address, metric=f"onworker:{metric}", **SHORT)
    with pytest.raises(kind, match=sentence):
        api.quantize(model, settings, listener=listener)
    sys.modules.pop("onworker")


def test_worker_that_joins_must_fit_too(machines, model, tmp_path, monkeypatch):
    """What was found of the workers when the search began is not what it is now."""
    machines.staff(1)
    found = versions() | {"numpy": "0.0.7"}

    def listener(event: object) -> None:
        if event == Stage("searching"):
            monkeypatch.setattr("onnxgru.report.record.version", found.__getitem__)

    settings = Config(output=tmp_path / "out", scheduler=machines.address, **SHORT)
    with pytest.raises(ClusterError, match=r"^worker tcp://\S+: must have numpy 0.0.7 as this pro"):
        api.quantize(model, settings, listener=listener)


def test_problem_in_another_process_is_the_same(model):
    """Also with genes and objectives that a worker has no files of, and with corrected biases."""
    settings = {
        "objectives": f"error,flash,cost:{COSTS / 'subbyte_engine.toml'}",
        "genes": "bits,observer,granularity",
        "metric": "sqnr",
        "bias_correction": True,
        "ranges": "aligned",
    }
    study = Study(*Session.open(model, Config(search=True, calibration=None, **settings)).parts)
    picklable = pickle.loads(pickle.dumps(study.picklable()))
    again = pickle.loads(pickle.dumps(picklable))
    for genome in study.starts[5:12]:
        assert picklable(genome) == again(genome) == study.evaluate(genome)


def test_key_does_not_depend_on_where_it_is_evaluated(model):
    places = ({}, {"jobs": 3}, {"scheduler": "tcp://10.0.0.1:8786"})
    assert (
        len({Study(*Session.open(model, Config(search=True, **p)).parts).key for p in places}) == 1
    )


# --- what cannot be used -------------------------------------------------------------------------


def refused(command: list[str], capsys, code: int) -> str:
    """The one sentence of a command that ends before any work, and soon."""
    began = time.monotonic()
    assert main(command) == code
    assert time.monotonic() - began < 10
    (line,) = unfolded(capsys.readouterr().err).splitlines()
    assert line.startswith("onnxgru: ") and "defect" not in line
    assert not Path(command[3]).exists()
    return line


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        (["--scheduler", "tcp://10.0.0.1:8786"], ["scheduler says where a search", "give search"]),
        (["--search", "--jobs", "2", "--scheduler", "h:1"], ["scheduler and jobs exclude"]),
        (["--search", "--scheduler", "somewhere"], ["must be an address such as", "'somewhere'"]),
        (["--search", "--scheduler", "foo://h:1"], ["foo://h:1: is no address of Dask", "tcp"]),
        (["--search", "--config", "file.toml"], ["file.toml: scheduler must be an add", "8786"]),
    ],
)
def test_wrong_options(tmp_path, capsys, monkeypatch, extra, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.toml").write_text("scheduler = 8786\n")
    line = refused(["quantize", str(MODELS / "digits_row.onnx"), "-o", "out", *extra], capsys, 2)
    assert [part for part in parts if part not in line] == []


def test_scheduler_in_a_file_is_for_searches(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file.toml").write_text('search = true\nscheduler = "tcp://127.0.0.1:1"\nverify = 2\n')
    short = ["--config", "file.toml", "-o", "out", "--quiet"]
    assert main(["quantize", str(model), "--bits", "4", *short]) == 0
    assert main(["sensitivity", str(model), "--widths", "4", *short]) == 0


def test_nobody_or_somebody_else_listens(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        line = refused(arguments(model, tmp_path / "out", address), capsys, 1)
        assert f"scheduler {address}: no Dask scheduler answers there" in line
    assert refused(arguments(model, tmp_path / "out", address), capsys, 1) == line


def test_workers_that_do_not_fit(machines, model, tmp_path, capsys, monkeypatch):
    machines.staff(1)
    command = arguments(model, tmp_path / "out", machines.address)
    with machines.client() as client:
        (worker,) = client.nthreads()
    line = refused([*command[:-1], worker], capsys, 1)
    assert f"scheduler {worker}: must be a Dask scheduler, it is a Worker" in line
    line = refused([*command, "--metric", "nomodule:fn"], capsys, 2)
    assert f"worker {worker}: nomodule:fn: module 'nomodule' must be importable" in line
    ours = versions()
    with monkeypatch.context() as patched:
        patched.setattr("onnxgru.__version__", "0.0.7")
        line = refused(command, capsys, 1)
        assert f"worker {worker}: must have onnxgru 0.0.7 as this process has" in line
        assert f"it has {ours['onnxgru']}: install" in line
    with monkeypatch.context() as patched:
        found = ours | {"numpy": "0.0.7"}
        patched.setattr("onnxgru.report.record.version", found.__getitem__)
        line = refused(command, capsys, 1)
        assert "must have numpy 0.0.7 as this process has, or results could differ; it has " in line
        assert f"{ours['numpy']}: install" in line
    machines.staff(0)
    line = refused(command, capsys, 1)
    assert f"must have workers, it has none; start some with dask worker {machines.address}" in line


def test_onnxgru_is_not_installed_there(machines, model, tmp_path, capsys):
    bare = Machines(tmp_path, bare=True)
    try:
        line = refused(arguments(model, tmp_path / "out", bare.address), capsys, 1)
        assert f"scheduler {bare.address}: cannot import onnxgru; install onnxgru and" in line
        bare.address = machines.address  # for its worker
        machines.staff(0)
        bare.staff(1)
        line = refused(arguments(model, tmp_path / "out", machines.address), capsys, 1)
        assert line.startswith("onnxgru: worker tcp://") and "cannot import onnxgru" in line
    finally:
        bare.close()


def test_dask_is_not_installed(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refused(arguments(model, tmp_path / "out", "127.0.0.1:8786"), capsys, 2)
    assert 'Dask, which is not installed; pip install -c constraints.txt -e ".[dist' in line
