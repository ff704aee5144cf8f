"""Two CPU processes on half batches against one process on the whole batch. Run as a script, this file is one rank."""

import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lightning import Trainer, seed_everything

from ganlab.callbacks import Budget
from ganlab.conditioning import ClassLabels
from ganlab.data import Split, TensorData
from ganlab.losses import WGAN, NonSaturatingGAN
from ganlab.networks import MLPDiscriminator, MLPGenerator
from ganlab.regularizers import R1, GradientPenalty

WHOLE, STEPS = 12, 8


class Points(TensorData):
    def __init__(self, batch_size):
        super().__init__(shape=(2,), num_classes=3, batch_size=batch_size)

    def load(self):
        random = torch.Generator().manual_seed(0)
        split = Split(torch.randn(48, 2, generator=random) * 0.7 + 0.4, torch.randint(3, (48,), generator=random))
        return split, split


class Share:
    """Random numbers that all ranks agree on: each call draws for the whole batch and hands over a rank's share."""

    def __init__(self, draw):
        self.draw, self.calls = draw, 0

    def __call__(self, n, *size, rank, world_size):
        self.calls += 1
        whole = self.draw(n * world_size, *size, generator=torch.Generator().manual_seed(self.calls))
        return whole[rank::world_size]


def with_shared_noise(family):
    """The family with latents of which each rank takes its interleaved share, like `Batches` gives it its samples."""

    class Shared(family):
        def on_fit_start(self):
            super().on_fit_start()
            self.share = Share(torch.randn)

        def noise(self, n):
            return self.share(n, 3, rank=self.global_rank, world_size=self.trainer.world_size)

    return Shared


def with_noted_noise(family):
    """The family as it is, which remembers its latents."""

    class Noted(family):
        noted = ()

        def noise(self, n):
            z = super().noise(n)
            self.noted = [*self.noted, z]
            return z

    return Noted


class SharedPenalty(GradientPenalty):
    """Takes each rank's share of one u per sample of the whole batch."""

    def __init__(self, weight):
        super().__init__(weight)
        self.share = Share(torch.rand)

    def term(self, discriminator, play):
        trainer = self.gan.trainer
        original = torch.rand

        def rand(*size, device=None, dtype=None):
            return self.share(*size, rank=trainer.global_rank, world_size=trainer.world_size)

        torch.rand = rand
        try:
            return super().term(discriminator, play)
        finally:
            torch.rand = original


class BothLabels(ClassLabels):
    """Fakes wear the real batch's labels, shifted by one, so that ranks agree."""

    def labels(self, y, n):
        return y, (y + 1) % self.num_classes


CASES = {
    "ns": (with_shared_noise(NonSaturatingGAN), {}, 0),
    "ns_r1_labels": (with_shared_noise(NonSaturatingGAN), {"r1": lambda: R1(2.0, every=2)}, 3),
    "wgan_gp": (with_shared_noise(WGAN), {"gp": lambda: SharedPenalty(2.0)}, 0),
    "own_noise": (with_noted_noise(NonSaturatingGAN), {}, 0),
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
        object.__setattr__(regularizer, "gan", gan)  # not as a submodule of its own part
    start = {k: v.clone() for k, v in gan.state_dict().items() if k != "_extra_state"}
    torch.manual_seed(11)  # where rank 0 starts too: the same order of batches
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, callbacks=[Budget(WHOLE * STEPS)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(gan, Points(batch_size))
    clocks = gan.get_extra_state()
    state = {k: v.clone() for k, v in gan.state_dict().items() if k != "_extra_state"}
    return {"start": start, "state": state, "clocks": clocks, "noise": list(getattr(gan, "noted", ()))}


def main(folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    settings = {"devices": 2, "strategy": "ddp_find_unused_parameters_true"}  # conf/trainer/ddp.yaml
    results = {case: trained(case, WHOLE // 2, **settings) for case in CASES}
    torch.save(results, Path(folder) / f"rank{os.environ['LOCAL_RANK']}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What the two processes were left with."""
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    common["OMP_NUM_THREADS"] = "1"
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=common | {"LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=120)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], "\n".join(outputs)[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_ranks_hold_the_same_weights(ranks, case):
    a, b = (rank[case] for rank in ranks)
    for name in a["state"]:
        assert torch.equal(a["start"][name], b["start"][name]), name
        assert torch.equal(a["state"][name], b["state"][name]), name


@pytest.mark.parametrize("case", [case for case in CASES if case != "own_noise"])
def test_two_processes_on_halves_equal_one_on_the_whole_batch(ranks, case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = trained(case, WHOLE, devices=1)
    two = ranks[0][case]
    assert one["clocks"] == two["clocks"]
    assert one["clocks"] == {
        "images_seen": WHOLE * STEPS,
        "d_updates": STEPS,
        "g_updates": STEPS // 2,
        "turns_since_g": 0,
    }
    for name, value in one["state"].items():
        assert torch.equal(one["start"][name], two["start"][name])
        if name.endswith("weight"):  # WGAN's loss and penalty leave the critic's last bias where it is
            assert not torch.equal(value, one["start"][name]), f"{name} did not move"
        torch.testing.assert_close(
            two["state"][name], value, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_by_default_each_rank_draws_noise_of_its_own(ranks):
    a, b = (rank["own_noise"]["noise"] for rank in ranks)
    assert len(a) == len(b) == STEPS + STEPS // 2
    assert all((x - y).abs().min() > 0 for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    main(sys.argv[1])
