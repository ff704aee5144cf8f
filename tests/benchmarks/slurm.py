"""Starts a Slurm of two nodes on this machine and has jobs of ganlab stopped and queued again (apt install slurm-wlm munge).

    python tests/benchmarks/slurm.py

One job receives SIGUSR1, one is requeued from outside, one has a process on each node, and of a submitit_slurm sweep one job raises
and one is preempted. Checks that each ends in its own directory with the weights, optimizers and rows of an undisturbed run. Exit
code 1 if one does not. Everything is in a temporary directory, and the daemons end with the script.
"""

import getpass
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runs"))
from test_launchers import PLANTED, TINY, assert_same

GANLAB = [sys.executable, "-m", "ganlab"]
RUN = [word for word in TINY if word != "trainer=cpu"] + ["trainer.accelerator=cpu", "max_images=100_000", "eval_every=5_000"]
CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={here}/munge/socket,cred_expire=15
StateSaveLocation={here}
SlurmdSpoolDir={here}/%n
SlurmctldPidFile={here}/slurmctld.pid
SlurmdPidFile={here}/%n.pid
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=n1,n2 Default=YES
"""


def start(here):
    (here / "munge").mkdir(mode=0o700)
    (here / "munge" / "key").write_bytes(os.urandom(1024))
    (here / "munge" / "key").chmod(0o600)
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [each.getsockname()[1] for each in listening]
    for each in listening:
        each.close()
    host = socket.gethostname().partition(".")[0]
    (here / "slurm.conf").write_text(CONF.format(host=host, user=getpass.getuser(), here=here, ports=ports))
    files = [f"--{kind}-file={here}/munge/{kind}" for kind in ("key", "pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={here}/munge/socket", *files]
    for command in munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]:
        yield subprocess.Popen(command, stdout=(here / "daemons.log").open("a"), stderr=subprocess.STDOUT)
        time.sleep(2)


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def until(true):
    end = time.monotonic() + 300
    while not (found := true()):
        assert time.monotonic() < end, "nothing in 300 s"
        time.sleep(0.1)
    return found


def stopped(how, words, *options):
    """The run directory of a job that was stopped after its first checkpoint."""
    wrapped = " ".join(["srun", *GANLAB, *words])
    number = slurm("sbatch", "--parsable", "--requeue", "--open-mode=append", *options, "--wrap", wrapped)
    folder = until(lambda: [*Path("outputs").glob(f"*slurm-{number}-*/checkpoints/last.ckpt")])[0].parents[1]
    slurm(*how, number)
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", number))
    return folder


def finished(folder):
    return (folder / "summary.json").is_file() and '"finished"' in (folder / "summary.json").read_text()


def main():
    Path("planted.py").write_text(PLANTED)
    subprocess.run([*GANLAB, *RUN, "hydra.run.dir=one"], check=True)
    subprocess.run([*GANLAB, *RUN, "trainer=ddp", "trainer.devices=2", "hydra.run.dir=two"], check=True)
    usr1, each = ("scancel", "--signal=USR1"), ["trainer=multi_node", "trainer.devices=1"]
    pairs = [("one", stopped(usr1, RUN)), ("one", stopped(("scontrol", "requeue"), RUN))]
    pairs.append(("two", stopped(usr1, [*RUN, *each], "--nodes=2", "--ntasks-per-node=1")))
    planted = ["gan._target_=planted.Preempted,planted.Raises", "hydra.sweep.dir=sweep"]
    swept = subprocess.run([*GANLAB, "-m", "hydra/launcher=submitit_slurm", *RUN, *planted], check=False)
    assert swept.returncode == 1 and Path("preempted").exists()
    pairs.append(("one", *(path.parent for path in Path("sweep").rglob("config.yaml") if finished(path.parent))))
    for whole, folder in pairs:
        until(lambda folder=folder: finished(folder))
        assert_same(Path(whole), folder)
        print(f"as undisturbed: {folder}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        os.environ |= {"SLURM_CONF": f"{place}/slurm.conf", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        daemons = []
        try:
            for daemon in start(Path(place)):
                daemons.append(daemon)
            main()
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait()
