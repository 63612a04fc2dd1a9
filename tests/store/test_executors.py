"""Executors by name: a real dask cluster and a real Slurm, each with a worker that is killed during a run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ncharness import RunConfig, Store, grid
from ncharness.cli.main import main
from ncharness.store import executor_loop, executors
from ncharness.store.executors import check, opened
from ncharness.store.messages import Event
from ncharness.store.processes import ensure

SLURM_CONF = """
# One node, this machine, over loopback; for whoever starts it, with no accounting and no cgroups.
ClusterName=alone
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
MpiDefault=none
NodeName=here NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=here Default=YES MaxTime=INFINITE State=UP
"""
DAEMONS = ("munged", "slurmctld", "slurmd")


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(depth=2, width=16, n_train=200, epochs=300, measurements=3)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_loop, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(executor_loop, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(executors, "_ASK_SECONDS", 0.3)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("processes", ("processes", "")),
        ("dask:tcp://127.0.0.1:8786", ("dask", "tcp://127.0.0.1:8786")),
        ("dask:node7:8786", ("dask", "node7:8786")),
        ("slurm", ("slurm", "")),
        ("slurm:partition=a,b,time=2:00:00", ("slurm", "partition=a,b,time=2:00:00")),
    ],
)
def test_a_name_is_a_kind_and_what_follows(name: str, parts: tuple[str, str]) -> None:
    pytest.importorskip({"dask": "distributed", "slurm": "submitit"}.get(parts[0], "ncharness"))
    assert check(name) == parts


@pytest.mark.parametrize(
    "name",
    ["", "threads", "processes:2", "dask", "dask:", "dask:node7", "dask::8786", "slurm:", "slurms", "slurm2:a=1"],
)
def test_a_name_that_is_none_says_what_was_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"^--executor: expected processes, dask:<host>:<port> or slurm") as caught:
        check(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("rest", ["partition", "partition=", "=cpu", "a b=1,c=2", ",a=1"])
def test_an_option_of_sbatch_needs_a_name_and_a_value(rest: str) -> None:
    with pytest.raises(ValueError, match=r"^--executor: expected slurm:<sbatch option>=<value>,\.\.\., got '"):
        check(f"slurm:{rest}")


def test_commas_within_values_of_sbatch_options_stay() -> None:
    found = executors._sbatch_options("partition=a,b,mem_per_cpu=2G,comment=x=y")
    assert found == {"partition": "a,b", "mem-per-cpu": "2G", "comment": "x=y"}
    assert executors._sbatch_options("") == {}


@pytest.mark.parametrize(("name", "package"), [("dask:here:1", "distributed"), ("slurm", "submitit")])
def test_a_missing_package_names_the_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path))
    assert main(["train", "--executor", name]) == 2
    error = capsys.readouterr().err
    assert f"needs {package}: pip install 'ncharness[{name.partition(':')[0]}]'" in error
    assert len(error.splitlines()) == 1


def test_slurm_without_sbatch_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="needs sbatch and squeue"), opened("slurm", tmp_path):
        pass


def test_a_queue_that_does_not_answer_has_lost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(0, "7\n8\n"), (1, ""), (0, "8\n"), (0, "8\n")])
    calls: list[float] = []

    def squeue(*_: Any, **__: Any) -> "subprocess.CompletedProcess[str]":
        calls.append(now)
        code, output = next(answers)
        return subprocess.CompletedProcess([], code, output, "")

    now = 100.0
    monkeypatch.setattr(executors.subprocess, "run", squeue)
    monkeypatch.setattr(executors.time, "monotonic", lambda: now)
    queue = executors._Queue()
    assert not queue.has_lost("7", submitted=99.0)
    now = 104.0
    assert not queue.has_lost("9", submitted=101.0), "submitted after the last answer"
    now = 105.0
    assert not queue.has_lost("7", submitted=99.0), "squeue failed"
    assert not queue.has_lost("9", submitted=101.0)
    now = 110.0
    assert [queue.has_lost(job, submitted=101.0) for job in "789"] == [True, False, True]
    assert calls == [100.0, 105.0, 110.0]


@pytest.fixture
def cluster(tmp_path: Path) -> "Iterator[tuple[str, list[subprocess.Popen[bytes]]]]":
    """Start a dask scheduler and two workers, a process each; yield the address and the workers."""
    distributed = pytest.importorskip("distributed")
    file, processes = tmp_path / "scheduler.json", list[subprocess.Popen[bytes]]()

    def start(what: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(file), *arguments]
        with (tmp_path / f"{what}.log").open("ab") as log:
            processes.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    for _ in range(2):
        start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", "ncharness.store.executor_loop")
    try:
        wait_for(lambda: file.exists() and file.read_text())
        address = json.loads(file.read_text())["address"]
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_killed_dask_worker_costs_at_most_an_epoch(
    cluster: "tuple[str, list[subprocess.Popen[bytes]]]", config: RunConfig, tmp_path: Path
) -> None:
    address, workers = cluster
    configs, store = grid(config, seed=range(3)), Store(tmp_path / "runs")
    at_the_kill: dict[str, int] = {}

    def kill_one(_: Event) -> None:
        found = [store.status(each) for each in configs]
        if not at_the_kill and sum(state == "partial" and epoch < 200 for state, epoch, _ in found) == 2:
            workers[0].send_signal(signal.SIGSTOP)  # what it has written now is all it will
            wait_for(lambda: stopped(workers[0].pid))
            at_the_kill.update({each.key(): store.status(each).epoch for each in configs})
            workers[0].kill()

    with opened(f"dask:{address}", tmp_path) as executor:
        runs = ensure(store, configs, executor=executor, on_event=kill_one)
    assert workers[0].poll() == -signal.SIGKILL
    assert workers[1].poll() is None
    resumed = {key: run.provenance["resumed_from_epoch"] for key, run in runs.items()}
    (key,) = [key for key, epoch in resumed.items() if epoch is not None]
    assert resumed[key] == at_the_kill[key] < config.epochs, "what was in the store is not trained again"
    alone = Store(tmp_path / "alone").train(runs[key].config)
    assert alone is not None
    assert alone.rows == runs[key].rows


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_dask_scheduler_that_is_not_there_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path))
    (port,) = free_ports(1)
    assert main(["train", "--executor", f"dask:127.0.0.1:{port}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--executor: expected a dask scheduler at 127.0.0.1:{port}, got no answer" in line


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a Slurm of one node; yield its configuration, for $SLURM_CONF."""
    pytest.importorskip("submitit")
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    programs = {name: shutil.which(name, path=path) for name in (*DAEMONS, "sbatch")}
    if missing := [name for name, program in programs.items() if program is None]:
        pytest.skip(f"Slurm is not installed (no {', '.join(missing)}): apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    for part in ("state", "spool"):
        (folder / part).mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    host, user = socket.gethostname().partition(".")[0], subprocess.check_output(["id", "-un"], text=True).strip()
    configuration = folder / "slurm.conf"
    configuration.write_text(SLURM_CONF.format(folder=folder, host=host, user=user, ports=free_ports(2)))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    files = {
        "key-file": "key",
        "socket": "munge.socket",
        "pid-file": "munged.pid",
        "log-file": "m.log",
        "seed-file": "s",
    }
    arguments = {
        "munged": ["--foreground", "--force", *(f"--{option}={folder / file}" for option, file in files.items())],
        "slurmctld": ["-D", "-i"],
        "slurmd": ["-D"],
    }
    started: list[subprocess.Popen[bytes]] = []

    def said(*command: str) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()

    def ready() -> bool:
        for daemon in started:
            assert daemon.poll() is None, "\n".join(log.read_text() for log in folder.glob("*.out"))
        return said("sinfo", "-ho", "%T") == "idle"

    try:
        for name in DAEMONS:
            with (folder / f"{name}.out").open("wb") as log:
                command = [str(programs[name]), *arguments[name]]
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if name == "munged":
                wait_for((folder / "munge.socket").exists, seconds=20)
        wait_for(ready, seconds=60)
        yield configuration
        said("scancel", "--me")
        wait_for(lambda: not said("squeue", "-h"), seconds=60)  # what a job leaves behind would outlive its daemons
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            daemon.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_cancelled_slurm_job_costs_at_most_an_epoch(
    slurm: Path,
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path / "runs"))
    store = Store(tmp_path / "runs")
    at_the_kill: list[int] = []

    def cancel() -> None:
        wait_for(lambda: store.status(config).epoch > 2)
        at_the_kill.append(store.status(config).epoch)
        subprocess.run(["scancel", "--me"], check=True)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    options = ["--depth", "2", "--width", "16", "--n-train", "200", "--epochs", "300", "--measurements", "3"]
    code = main(["train", *options, "--executor", "slurm:time=10,comment=one,two"])
    canceller.join()
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert f"{config.name()} lost its worker (WorkerLostError: Slurm job" in captured.err
    assert "CANCELLED" in captured.err
    run = store.load(config)
    assert run is not None
    assert at_the_kill[0] <= run.provenance["resumed_from_epoch"] < config.epochs
    scripts = [file.read_text() for file in (tmp_path / "runs" / ".slurm").glob("*_submission.sh")]
    assert len(scripts) == 2
    assert all("--time=10\n" in script and "--comment=one,two\n" in script for script in scripts)
    alone = Store(tmp_path / "alone").train(config)
    assert alone is not None
    assert alone.rows == run.rows


@pytest.mark.usefixtures("impatient")
def test_a_slurm_job_that_has_not_begun_is_cancelled(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    with opened("slurm:begin=now+1hour", tmp_path) as executor:
        assert executor is not None
        job = executor.submit(print)
        time.sleep(0.5)
        assert not job.done()
        job.cancel()
        wait_for(job.done, seconds=30)
        assert "ended without a result" in str(job.exception())


def test_an_option_that_sbatch_does_not_know_is_one_clear_line(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path))
    assert main(["train", "--executor", "slurm:partitoin=all"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ncharness")]
    assert "partitoin" in line
