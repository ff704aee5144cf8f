"""The samples on which a GAN is evaluated: their labels, their 8 bits, and the share of each process."""

from types import SimpleNamespace

import pytest
import torch

from ganlab.data import Split
from ganlab.metrics.sampling import as_saved, evaluation_samples, evenly_spaced_samples, reference_labels
from ganlab.models import gan as gan_module
from ganlab.models.conditioning import ClassLabels, Unconditional


def test_images_are_clamped_and_rounded_as_they_are_saved():
    """Points are neither."""
    x = torch.tensor([-1.2, -1.0, 0.5 / 127.5, 1 - 0.6 / 127.5, 1.2, 0.1]).view(1, 1, 2, 3)
    expected = torch.tensor([0, 0, 128, 254, 255, 140]).view_as(x) / 127.5 - 1
    torch.testing.assert_close(as_saved(x), expected, atol=1e-7, rtol=0)
    points = torch.tensor([[-1.7, 0.123456], [40.0, 0.0]])
    assert as_saved(points) is points


def test_labels_are_in_the_proportions_of_the_reference():
    y = torch.arange(10).repeat_interleave(torch.tensor([900, 100, 50, 30, 10, 5, 3, 1, 1, 0]))
    data = SimpleNamespace(val=Split(y[:, None].float(), y), test=Split(y[:4, None].float(), y[:4]))
    conditional = SimpleNamespace(conditioning=ClassLabels(10))
    labels = reference_labels(conditional, data, "val", 220)
    assert labels.bincount(minlength=10).tolist() == [180, 20, 10, 6, 2, 1, 1, 0, 0, 0]
    assert torch.equal(labels, evenly_spaced_samples(data.val, 220).y)
    assert torch.equal(reference_labels(conditional, data, "val", 1100), y)
    assert reference_labels(conditional, data, "val", 2210).bincount(minlength=10).tolist()[:3] == [1808, 201, 101]
    assert not reference_labels(conditional, data, "test", 3).any(), "of the split that is asked for"
    assert reference_labels(SimpleNamespace(conditioning=Unconditional()), data, "val", 5) is None


@pytest.mark.parametrize("world_size", [1, 2, 3, 16])
@pytest.mark.parametrize("classes", [0, 3])
def test_processes_share_the_samples_of_one(make_gan, monkeypatch, classes, world_size):
    """Also where a process's share does not start with a block of latents."""
    monkeypatch.setattr(gan_module, "DRAW_SIZE", 5)
    gan = make_gan(classes=classes)
    y = torch.arange(13) % 3 if classes else None
    expected = gan.sample(13, y, seed=4)
    for rank in range(world_size):
        batches = list(evaluation_samples(gan, y, 13, 4, rank, world_size))
        if rank >= 13:
            assert not sum(len(samples) for samples, _ in batches)
            continue
        torch.testing.assert_close(torch.cat([samples for samples, _ in batches]), expected[rank::world_size])
        labels = [labels for _, labels in batches]
        assert torch.equal(torch.cat(labels), y[rank::world_size]) if classes else set(labels) == {None}


def test_samples_that_are_not_finite_are_refused(make_gan):
    gan = make_gan()
    with torch.no_grad():
        next(gan.generator_ema.parameters())[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the generator's samples are not finite, its training diverged"):
        list(evaluation_samples(gan, None, 7, 0))
