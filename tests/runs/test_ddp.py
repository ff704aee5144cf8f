"""Two CPU processes on half batches against one process on the whole batch."""

import contextlib
import csv
import json
import os
import signal
import socket
import sys
import time
import warnings

import pytest
import torch
import torch.distributed as dist
from lightning import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only

from ganlab.callbacks import MaxImages
from ganlab.cli.main import main
from ganlab.data import Split, TensorData
from ganlab.losses import WGAN, NonSaturatingGAN
from ganlab.models.conditioning import ClassLabels
from ganlab.networks import MLPDiscriminator, MLPGenerator
from ganlab.regularizers import R1, GradientPenalty
from ganlab.runs.run_dir import RunDir
from ganlab.utils.random import mix_seeds

BATCH_SIZE, STEPS = 12, 8


class Points(TensorData):
    def __init__(self, batch_size):
        super().__init__(shape=(2,), num_classes=3, batch_size=batch_size)

    def load(self):
        random = torch.Generator().manual_seed(0)
        split = Split(torch.randn(48, 2, generator=random) * 0.7 + 0.4, torch.randint(3, (48,), generator=random))
        return split, split


class Share:
    """Random numbers that do not depend on the number of ranks: draws for the whole batch, returns the rank's share."""

    def __init__(self, draw):
        self.draw, self.calls = draw, 0

    def __call__(self, n, *size, rank, world_size):
        self.calls += 1
        batch = self.draw(n * world_size, *size, generator=torch.Generator().manual_seed(self.calls))
        return batch[rank::world_size]


def with_shared_noise(family):
    """The family with latents of which each rank takes every world_size-th, as `Batches` does with the data."""

    class Shared(family):
        def on_fit_start(self):
            super().on_fit_start()
            self.share = Share(torch.randn)

        def sample_latents(self, n):
            return self.share(n, 3, rank=self.global_rank, world_size=self.trainer.world_size)

    return Shared


def with_recorded_noise(family):
    """The family, which records its latents."""

    class Recording(family):
        recorded = ()

        def sample_latents(self, n):
            z = super().sample_latents(n)
            self.recorded = [*self.recorded, z]
            return z

    return Recording


class SharedPenalty(GradientPenalty):
    """Takes each rank's share of one u per sample of the whole batch."""

    def __init__(self, weight):
        super().__init__(weight)
        self.share = Share(torch.rand)

    def penalty(self, discriminator, outputs):
        trainer = self.gan.trainer
        original = torch.rand

        def rand(*size, device=None, dtype=None):
            return self.share(*size, rank=trainer.global_rank, world_size=trainer.world_size)

        torch.rand = rand
        try:
            return super().penalty(discriminator, outputs)
        finally:
            torch.rand = original


class BothLabels(ClassLabels):
    """Fakes wear the real batch's labels, shifted by one, so that ranks agree."""

    def step_labels(self, y, n):
        return y, (y + 1) % self.num_classes


CASES = {
    "ns": (with_shared_noise(NonSaturatingGAN), {}, 0),
    "ns_r1_labels": (with_shared_noise(NonSaturatingGAN), {"r1": lambda: R1(2.0, every=2)}, 3),
    "wgan_gp": (with_shared_noise(WGAN), {"gp": lambda: SharedPenalty(2.0)}, 0),
    "independent_noise": (with_recorded_noise(NonSaturatingGAN), {}, 0),
}


def trained(case, batch_size, **settings):
    family, regularizers, classes = CASES[case]
    seed_everything(11, verbose=False)
    gan = family(
        MLPGenerator(3, (2,), [8], bounded=False, num_classes=classes),
        MLPDiscriminator((2,), [7, 5], projection_classes=classes),
        generator_optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5),
        discriminator_optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        conditioning=BothLabels(classes) if classes else None,
        regularizers={name: build() for name, build in regularizers.items()},
        n_critic=2,
        gradient_clip=0.8,
    )
    for regularizer in gan.regularizers.values():
        object.__setattr__(regularizer, "gan", gan)  # without registering a submodule
    start = {k: v.clone() for k, v in gan.state_dict().items() if k != "_extra_state"}
    torch.manual_seed(11 if settings["devices"] == 2 else mix_seeds(11, 0))  # rank 0 starts there: the same order of batches
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, callbacks=[MaxImages(BATCH_SIZE * STEPS)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(gan, Points(batch_size))
    counters = gan.get_extra_state()
    state = {k: v.clone() for k, v in gan.state_dict().items() if k != "_extra_state"}
    return {"start": start, "state": state, "counters": counters, "noise": list(getattr(gan, "recorded", ()))}


def rendezvous_variables():
    """Environment variables by which two processes find each other."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}


def fork_two(call):
    """Call it in two child processes of one process group; returns their ids."""
    variables, children = rendezvous_variables(), []
    for rank in range(2):
        if (child := os.fork()) == 0:
            os.environ |= variables | {"LOCAL_RANK": str(rank)}
            rank_zero_only.rank = rank  # as Lightning sets it when it is imported
            torch.set_num_threads(1)
            sys.stdout = sys.stderr = open(f"log{rank}", "a", buffering=1)
            code = 0
            try:
                call(rank)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
                print(end.code)
            except BaseException as error:
                code = 99
                print(repr(error))
            os._exit(code)
        children.append(child)
    return children


def exit_codes(children):
    """Their exit codes, once both have ended, within a minute."""
    deadline, codes = time.monotonic() + 60, {}
    while len(codes) < len(children) and time.monotonic() < deadline:
        for child in set(children) - set(codes):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    for child in set(children) - set(codes):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [codes.get(child, "did not end") for child in children]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The results of both processes."""

    def call(rank):
        warnings.simplefilter("ignore")
        settings = {"devices": 2, "strategy": "ddp_find_unused_parameters_true"}  # conf/trainer/ddp.yaml
        torch.save({case: trained(case, BATCH_SIZE // 2, **settings) for case in CASES}, f"rank{rank}.pt")

    with contextlib.chdir(folder := tmp_path_factory.mktemp("ddp")):
        codes = exit_codes(fork_two(call))
    assert codes == [0, 0], (folder / "log0").read_text()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_ranks_have_equal_weights(ranks, case):
    a, b = (rank[case] for rank in ranks)
    for name in a["state"]:
        assert torch.equal(a["start"][name], b["start"][name]), name
        assert torch.equal(a["state"][name], b["state"][name]), name


@pytest.mark.parametrize("case", [case for case in CASES if case != "independent_noise"])
def test_two_processes_match_one(ranks, case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = trained(case, BATCH_SIZE, devices=1)
    two = ranks[0][case]
    assert one["counters"] == two["counters"]
    assert one["counters"] == {
        "images_seen": BATCH_SIZE * STEPS,
        "d_updates": STEPS,
        "g_updates": STEPS // 2,
        "d_steps_since_g": 0,
    }
    for name, value in one["state"].items():
        assert torch.equal(one["start"][name], two["start"][name])
        if name.endswith("weight"):  # WGAN's loss and penalty leave the critic's last bias where it is
            assert not torch.equal(value, one["start"][name]), f"{name} did not move"
        torch.testing.assert_close(two["state"][name], value, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_ranks_draw_different_latents_by_default(ranks):
    a, b = (rank["independent_noise"]["noise"] for rank in ranks)
    assert len(a) == len(b) == STEPS + STEPS // 2
    assert all((x - y).abs().min() > 0 for x, y in zip(a, b, strict=True))
    for drawn_before in range(10):  # a run of seed 12 draws other latents than rank 1 of seed 11
        torch.manual_seed(12)
        torch.rand(drawn_before)
        assert not torch.equal(torch.randn(b[0].shape), b[0])


OVERRIDES = [
    "logger=csv", "trainer=cpu", "trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true", "data=ring", "loss=ns",
    "data.train_size=200", "data.test_size=50", "data.batch_size=8", "networks.hidden=[8,8]", "metrics.samples=50",
    "monitor=[]", "callbacks.sample_grid=null", "max_images=960", "eval_every=320", "regularizer=[r1]", "regularizer.r1.every=4",
]  # fmt: skip


def ganlab(*arguments):
    def call(rank):
        sys.argv[1:] = arguments
        main()

    return fork_two(call)


def wait_for_checkpoint(folder):
    deadline = time.monotonic() + 60
    while not (folder / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


TIMINGS = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The directory of a finished run of two processes."""
    with contextlib.chdir(folder := tmp_path_factory.mktemp("uninterrupted")):
        codes = exit_codes(ganlab(*OVERRIDES, "hydra.run.dir=run"))
    assert codes == [0, 0], (folder / "log0").read_text()
    return folder / "run"


@pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 1), (signal.SIGKILL, 0)])
def test_resume_of_two_processes_is_bit_identical(uninterrupted, tmp_path, monkeypatch, number, rank):
    """A signal to either process ends both, SIGTERM saves, and the resumed run equals the uninterrupted one."""
    monkeypatch.chdir(tmp_path)
    children = ganlab(*OVERRIDES, "hydra.run.dir=stopped")
    wait_for_checkpoint(tmp_path / "stopped")
    os.kill(children[rank], number)
    codes = exit_codes(children)
    if number == signal.SIGTERM:
        assert codes == [128 + number] * 2
        assert (tmp_path / "log0").read_text().count("ganlab: stopped by SIGTERM") == 1
        assert "stopped by" not in (tmp_path / "log1").read_text()
    else:
        assert (codes[rank], codes[1 - rank]) == (-number, 1)
        log = (tmp_path / f"log{1 - rank}").read_text()
        assert "another process of this run ended" in log and "Traceback" not in log
    assert not (tmp_path / "stopped" / "checkpoints" / "last.ckpt.partial").exists()
    assert exit_codes(ganlab("resume=stopped")) == [0, 0], (tmp_path / "log0").read_text()
    expected, resumed = (torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in (uninterrupted, "stopped"))
    for part in ("state_dict", "optimizer_states", "random_states", "Ring"):
        assert str(expected[part]) == str(resumed[part]), part
    assert all(torch.equal(v, resumed["state_dict"][k]) for k, v in expected["state_dict"].items() if k != "_extra_state")
    tables = [list(csv.DictReader(open(f"{name}/metrics.csv"))) for name in (uninterrupted, "stopped")]
    one, two = ([{k: v for k, v in row.items() if k not in TIMINGS} for row in table] for table in tables)
    assert one == two


@pytest.mark.parametrize("variable", ["NODE_RANK", "GROUP_RANK"])
def test_only_the_first_node_locks_the_run_directory(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "0")
    with RunDir(tmp_path).lock(resume=False):
        with pytest.raises(ValueError, match="another process trains"), RunDir(tmp_path).lock(resume=False):
            pass
        monkeypatch.setenv(variable, "1")
        with RunDir(tmp_path).lock(resume=False):
            pass


def test_different_run_directories_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(rank):
        sys.argv[1:] = [*OVERRIDES, f"hydra.run.dir=of_{rank}"]
        main()

    assert exit_codes(fork_two(call)) == [1, 1]
    assert (
        "different run directories" in (tmp_path / "log0").read_text()
        and "hydra.run.dir=DIR" in (tmp_path / "log1").read_text()
    )


def test_metrics_of_two_processes_match_one(tmp_path, monkeypatch):
    """On 51 samples, an odd number; both processes report the same."""
    monkeypatch.chdir(tmp_path)
    from ganlab.data import Ring
    from ganlab.metrics import ToyQuality

    data = Ring(num_classes=8, dim=2, std=0.01, batch_size=8, train_size=200, test_size=50, data_seed=0)
    data.setup()
    samples = data.train.x[:51] + 0.02 * torch.randn(51, 2, generator=torch.Generator().manual_seed(1))

    def measured(share):
        metric = ToyQuality(samples=51)
        metric.setup(data, torch.device("cpu"))
        metric.update(share, None)
        return {name: float(value) for name, value in metric.compute().items()}

    def call(rank):
        dist.init_process_group("gloo", rank=rank, world_size=2)
        (tmp_path / f"metrics{rank}").write_text(json.dumps(measured(samples[rank::2])))

    assert exit_codes(fork_two(call)) == [0, 0], (tmp_path / "log0").read_text()
    assert [json.loads((tmp_path / f"metrics{rank}").read_text()) for rank in range(2)] == [measured(samples)] * 2
    assert 0 < measured(samples)["high_quality_51"] < 1
