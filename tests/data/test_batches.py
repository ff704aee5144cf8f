"""Batches: shuffling, sharding, sizes, resuming; and TensorData under a trainer."""

from itertools import islice

import lightning as L
import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from ganlab.data import Batches, Ring, Split, TensorData, to_float, to_uint8
from ganlab.data.batches import InfiniteBatches

N = 103  # prime: divides into nothing evenly


def numbered(n=N):
    return Split(torch.arange(n, dtype=torch.float32).unsqueeze(1) * 2, torch.arange(n))


def labels(batches):
    return [y.tolist() for _, y in batches]


class Tiny(TensorData):
    def __init__(self, batch_size=4, n=N):
        super().__init__(shape=(1, 2, 2), num_classes=3, batch_size=batch_size)
        self.n, self.loads = n, 0

    def load(self):
        self.loads += 1
        x = torch.arange(self.n * 4).remainder(256).to(torch.uint8).view(-1, 1, 2, 2)
        return Split(x, torch.arange(self.n) % 3), Split(x[:5], torch.arange(5) % 3)


def test_epoch_is_a_permutation_without_the_remainder():
    batches = Batches(numbered(), 10)
    epoch = labels(batches)
    assert len(batches) == len(epoch) == 10 and all(len(batch) == 10 for batch in epoch)
    flat = [i for batch in epoch for i in batch]
    assert len(set(flat)) == 100 and set(flat) <= set(range(N)) and flat != sorted(flat)
    assert all(torch.equal(x, 2.0 * y.unsqueeze(1)) for x, y in batches)  # x and y stay together


def test_order_follows_from_the_global_seed_and_epochs_differ():
    def three_epochs(seed):
        torch.manual_seed(seed)
        batches = Batches(numbered(), 10)
        return [labels(batches) for _ in range(3)]

    first = three_epochs(5)
    assert first == three_epochs(5) and first != three_epochs(6)
    assert first[0] != first[1] != first[2] != first[0]


def test_order_is_fixed_when_the_epoch_starts():
    batches = Batches(numbered(), 10)
    torch.manual_seed(1)
    expected = labels(batches)
    torch.manual_seed(1)
    started = iter(batches)
    torch.manual_seed(2)  # later draws have no influence
    assert labels(started) == expected


@pytest.mark.parametrize("world_size, batch_size", [(1, 7), (2, 7), (3, 10), (4, 25), (7, 1)])
def test_ranks_share_one_permutation_of_the_split(world_size, batch_size):
    ranks = []
    for rank in range(world_size):
        torch.manual_seed(3)
        ranks.append(labels(Batches(numbered(), batch_size, rank, world_size)))
    assert {len(rank) for rank in ranks} == {N // world_size // batch_size}
    torch.manual_seed(3)
    alone = labels(Batches(numbered(), batch_size * world_size))
    assert len(alone) == len(ranks[0])
    for together, of_ranks in zip(alone, zip(*ranks, strict=True), strict=True):
        assert sorted(together) == sorted(i for batch in of_ranks for i in batch)  # the same samples, none twice


@pytest.mark.parametrize("world_size, batch_size, advice", [(1, 104, "batch_size=103"), (4, 26, "batch_size=25")])
def test_batch_size_larger_than_the_share_is_rejected(world_size, batch_size, advice):
    with pytest.raises(ValueError, match=f"{batch_size}.*{advice} or less"):
        Batches(numbered(), batch_size, 0, world_size)


def test_batch_size_is_checked_before_an_extractor_is_trained(cli, tmp_path):
    code, output = cli("data=digits", "data.batch_size=1078", "max_images=1078", "trainer=cpu", "logger=[]")
    assert code == 1 and "choose data.batch_size=1077 or less" in output
    assert not list(tmp_path.rglob("extractors"))


def test_batch_size_may_equal_the_split():
    assert sorted(labels(Batches(numbered(), N))[0]) == list(range(N))


@pytest.mark.parametrize("batch_size", [0, -3, 2.0, "64", True, None])
def test_batch_size_is_validated(batch_size):
    with pytest.raises(ValueError, match="data.batch_size must be an integer of at least 1, got"):
        Tiny(batch_size=batch_size)


def test_subclass_must_define_load():
    with pytest.raises(TypeError, match="load"):
        TensorData(shape=(2,), num_classes=1, batch_size=1)


def test_to_float_maps_bytes_to_minus_one_to_one():
    x = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    expected = torch.from_numpy(np.linspace(-1, 1, 256)).view(4, 1, 8, 8)
    assert to_float(x).dtype == torch.float32
    torch.testing.assert_close(to_float(x).double(), expected, atol=1e-6, rtol=0)
    assert to_float(x).min() == -1 and to_float(x).max() == 1


def test_to_uint8_inverts_to_float():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(x)), x)
    assert to_uint8(torch.tensor([-3.0, 1.2])).tolist() == [0, 255]


def test_setup_is_idempotent():
    data = Tiny()
    data.setup()
    x = data.train.x
    data.setup("fit")
    assert data.loads == 1 and data.train.x is x


def test_fingerprint_depends_on_all_of_the_train_split():
    def fingerprint(change=None):
        data = Tiny()
        data.setup()
        if change:
            data.train = change(*data.train)
        return data.fingerprint

    def flipped(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[17] += 1
        return tensor

    prints = [
        fingerprint(),
        fingerprint(lambda x, y: Split(flipped(x), y)),
        fingerprint(lambda x, y: Split(x, flipped(y))),
        fingerprint(lambda x, y: Split(x.view(-1, 1, 1, 4), y)),
        fingerprint(lambda x, y: Split(x.view(torch.int8), y)),
        fingerprint(lambda x, y: Split(x[:-1], y[:-1])),
    ]
    assert len(set(prints)) == len(prints) and all(len(p) == 64 and int(p, 16) for p in prints)
    assert fingerprint() == prints[0]
    assert fingerprint(lambda x, y: Split(x.flip(3).contiguous().flip(3), y)) == prints[0]  # bytes, not strides


class Recorder(L.LightningModule):
    """Records the batches that the trainer passes on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.automatic_optimization = False
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=1.0)


def fit(data, batches):
    module = Recorder()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    L.Trainer(accelerator="cpu", devices=1, max_epochs=1, limit_train_batches=batches, **quiet).fit(module, data)
    return module.seen


@pytest.mark.filterwarnings("ignore")
def test_trainer_gets_floats_for_images_and_points_unchanged():
    torch.manual_seed(0)
    seen = fit(Tiny(batch_size=10), 20)
    assert len(seen) == 20
    x, y = seen[0]
    assert x.shape == (10, 1, 2, 2) and x.dtype == torch.float32 and x.min() >= -1 and x.max() <= 1 and x.min() < 0
    assert y.dtype == torch.int64
    ring = Ring(dim=2, num_classes=8, std=0.01, batch_size=16, train_size=64, test_size=8, data_seed=0)
    points = torch.cat([x for x, _ in fit(ring, 4)])
    assert sorted(points.tolist()) == sorted(ring.train.x.tolist())


def one_of_two_ranks(rank, rendezvous):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.manual_seed(100 + rank)  # the ranks' own generators disagree
    data = Ring(dim=2, num_classes=8, std=0.01, batch_size=8, train_size=67, test_size=1, data_seed=0)
    data.setup()
    for _ in range(2):
        mine = torch.cat([x for x, _ in data.batches()])
        both = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(both, mine)
        rows = {tuple(row) for row in torch.cat(both).tolist()}
        assert len(mine) == 32 and len(rows) == 64 and rows <= {tuple(row) for row in data.train.x.tolist()}
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this torch was built without torch.distributed")
def test_processes_share_one_permutation(tmp_path):
    start_processes(
        one_of_two_ranks, (str(tmp_path / "rendezvous"),), nprocs=2, start_method="fork"
    )  # raises what a rank raises


@pytest.mark.parametrize("seeds", [(), (3, 8)], ids=["single", "ensemble"])
@pytest.mark.parametrize("taken", [1, 4, 5, 6, 13])
def test_resumed_stream_continues_with_the_next_batch(seeds, taken):
    """With five batches per epoch: in the middle of an epoch, and at its ends."""

    def ring():
        data = Ring(dim=2, num_classes=8, std=0.01, batch_size=8, train_size=43, test_size=1, data_seed=0)
        data.seeds = seeds
        data.setup()
        return data

    torch.manual_seed(1)
    whole = [x for x, _ in islice(ring().train_dataloader(), 20)]
    torch.manual_seed(1)
    first = ring()
    list(islice(first.train_dataloader(), taken))
    state, random = first.state_dict(), torch.get_rng_state()
    torch.manual_seed(2)
    second = ring()
    second.load_state_dict(state)
    stream = second.train_dataloader()
    torch.set_rng_state(random)
    rest = [x for x, _ in islice(stream, 20 - taken)]
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[taken:], strict=True))
    epochs = [torch.cat(whole[i : i + 5], -2).reshape(-1, 2).tolist() for i in range(0, 20, 5)]
    assert len({str(epoch) for epoch in epochs}) == 4, "each epoch has its own order"


def test_position_beyond_an_epoch_starts_the_next_one():
    """A run resumed with larger batches has fewer per epoch; an empty batch would give nan."""
    torch.manual_seed(0)
    x, _ = next(iter(InfiniteBatches(Batches(Split(torch.arange(10), torch.zeros(10)), batch_size=5), position=(1, 7))))
    assert len(x) == 5
