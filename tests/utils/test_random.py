"""Seeds made from several numbers."""

import torch

from ganlab.utils.random import mix_seeds


def test_seeds_of_processes_do_not_overlap_between_runs():
    seeds = [mix_seeds(seed, rank) for seed in range(100) for rank in range(10)]
    assert len({*seeds}) == 1000 and all(0 <= seed < 2**63 for seed in seeds)
    assert min(abs(a - b) for a, b in zip(sorted(seeds), sorted(seeds)[1:])) > 1000  # nor a few steps apart
    torch.Generator().manual_seed(max(seeds))


def test_mixed_seed_follows_from_order_and_number_of_parts():
    """The value itself is part of what a resumed run relies on."""
    assert mix_seeds(1, 0) == mix_seeds(1, 0) == 8188690635816437626
    assert len({mix_seeds(*parts) for parts in [(1, 2), (2, 1), (1,), (1, 0), (12,), (1, 2, 0), (2**32 + 1,), (1, 1)]}) == 8
