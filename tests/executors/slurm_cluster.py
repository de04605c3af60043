"""A private Slurm cluster of one node for tests: slurmctld, slurmd and munged on this machine, without cgroups."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "scancel", "squeue")
MISSING = None if all(map(shutil.which, PROGRAMS)) else "no Slurm here (Debian: slurmctld slurmd slurm-client munge)"
if os.getuid() != 0:
    MISSING = MISSING or "a private Slurm cluster needs root"

_CONFIG = """
ClusterName=harness
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000
SlurmctldTimeout=30
SlurmdTimeout=30
UnkillableStepTimeout=60
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


class SlurmCluster:
    """A cluster that runs.

    Attributes:
        config: Its configuration file, to which SLURM_CONF points.
    """

    def __init__(self, config: Path) -> None:
        self.config = config

    def call(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        environment = os.environ | {"SLURM_CONF": str(self.config)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """The state of every job in the queue, by its id."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%i %T", "--states=all").splitlines()
        return dict(line.split() for line in lines)

    def requeue(self, job: str) -> None:
        """Interrupt a job and put it back into the queue, where it would wait for two minutes."""
        self.call("scontrol", "requeue", job)
        self.start_now(job)

    def start_now(self, job: str, seconds: float = 120) -> None:
        """Start a requeued job without the delay, which starts again when the processes of the job have ended.

        slurmd counts in whole seconds: a job that starts in the second in which it was stopped is taken for the old
        one, and fails.
        """
        deadline = time.monotonic() + seconds
        time.sleep(2)
        while (state := self.jobs().get(job)) != "RUNNING":
            assert state != "FAILED", self.call("scontrol", "show", "job", job)
            assert time.monotonic() < deadline, f"job {job} does not start again: {self.log()}"
            with contextlib.suppress(AssertionError):  # it may be running by now
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now")
            time.sleep(0.5)

    def wait_for(self, job: str, *states: str, seconds: float = 120) -> str:
        """Wait until a job has one of these states, and return it."""
        deadline = time.monotonic() + seconds
        while (state := self.jobs().get(job, "GONE")) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state} after {seconds} s: {self.log()}"
            time.sleep(0.2)
        return state

    def log(self) -> str:
        """The end of the controller's log."""
        return (self.config.parent / "slurmctld.log").read_text()[-2000:]


@contextlib.contextmanager
def cluster() -> Iterator[SlurmCluster]:
    """Start a cluster, and stop it with all its jobs."""
    with tempfile.TemporaryDirectory(prefix="harness-slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        processes: list[subprocess.Popen[bytes]] = []
        try:
            yield _started(folder, processes)
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGTERM)
            for process in reversed(processes):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                process.kill()
            _kill_steps(folder)


def _started(folder: Path, processes: list[subprocess.Popen[bytes]]) -> SlurmCluster:
    config = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    config.write_text(_CONFIG.format(host=host, folder=folder, controller=_free_port(), node=_free_port()))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(config)}
    munge = [f"--socket={folder}/munge.socket", f"--key-file={key}", f"--pid-file={folder}/munge.pid"]
    munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    _start(processes, ["munged", "--foreground", "--force", *munge], environment)
    found = SlurmCluster(config)
    _wait(lambda: (folder / "munge.socket").exists(), "munged has not started")
    _start(processes, ["slurmctld", "-D", "-f", str(config)], environment)
    _start(processes, ["slurmd", "-D", "-f", str(config), "-N", host], environment)
    _wait(lambda: _is_idle(found), "the node is not idle")
    return found


def _is_idle(cluster: SlurmCluster) -> bool:
    with contextlib.suppress(AssertionError):
        return "idle" in cluster.call("sinfo", "--noheader", "--format=%T")
    return False


def _start(processes: list[subprocess.Popen[bytes]], words: list[str], environment: dict[str, str]) -> None:
    processes.append(subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def _wait(condition: object, problem: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill_steps(folder: Path) -> None:
    """Processes of jobs outlive their node: those with this cluster's configuration are killed."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (process / "environ").read_bytes() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
