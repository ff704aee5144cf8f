"""sample, interpolate and neighbors: right samples, complete files or none, one sentence per error."""

import errno
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from ganlab.cli import interpolate, neighbors
from ganlab.cli import sample as sample_verb
from ganlab.cli.output import draw_samples
from ganlab.models.latents import DRAW_SIZE, sample_normal
from ganlab.networks import DCGANGenerator, MLPGenerator, ResNetGenerator


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    """name → (run directory, GAN)."""
    base = tmp_path_factory.mktemp("runs")
    settings = {
        "labels": {},
        "plain": {"classes": 0},
        "points": {"data": "Ring", "generator": "MLPGenerator", "classes": 0},
    }
    return {name: (base / name, make_run(base / name, **values)) for name, values in settings.items()}


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sample(run, *words):
    sample_verb.main([f"run={run[0]}", *words])


def cell(grid, row, column):
    """An image of 8 x 8 pixels in a grid that shows it 7 times as large, with 2 pixels between images."""
    return grid[2 + 58 * row : 58 * (row + 1) : 7, 2 + 58 * column : 58 * (column + 1) : 7, 0]


# sample


def test_seed_gives_same_samples_at_any_batch_size(runs):
    gan = runs["points"][1]
    n = DRAW_SIZE + 700
    samples = gan.sample(n, seed=4)
    assert torch.allclose(samples, torch.cat(list(gan.sample_in_batches(n, seed=4, batch_size=333))), atol=1e-6)
    assert max(map(len, gan.sample_in_batches(n, seed=4, batch_size=333))) == 333
    assert torch.allclose(samples[:DRAW_SIZE], gan.sample(DRAW_SIZE, seed=4), atol=1e-6)
    assert not torch.equal(samples[:700], samples[DRAW_SIZE:])
    assert not torch.equal(samples, gan.sample(n, seed=5))


def test_truncation_reaches_the_generator(runs):
    gan = runs["points"][1]
    z = sample_normal(50, 5, torch.Generator().manual_seed(2), 0.5)
    assert torch.equal(gan.sample(50, seed=2, truncation=0.5), gan.generate(z))


def test_npy_holds_ema_samples_in_class_order(runs):
    gan = runs["labels"][1]
    state = torch.get_rng_state()
    sample(runs["labels"], "n=1207", "seed=5", "out=a.npy")
    assert torch.equal(state, torch.get_rng_state())
    actual = np.load("a.npy", mmap_mode="r")
    assert actual.dtype == np.float32 and actual.shape == (1207, 1, 8, 8)
    y = torch.arange(1207) % 10
    assert np.allclose(actual, gan.sample(1207, y, seed=5).numpy(), atol=1e-6)
    with torch.no_grad():
        other = gan.generator(torch.randn(1207, 5, generator=torch.Generator().manual_seed(5)), y)
    assert not np.allclose(actual, other.numpy(), atol=1e-2)


def test_png_files_and_grid_show_the_samples(runs, capsys):
    gan = runs["labels"][1]
    sample(runs["labels"], "n=12", "label=3", "truncation=0.5", "out=many")
    assert "12 samples of digits-test, label 3, seed 1\nmany" in capsys.readouterr().out
    images = gan.sample(12, 3, seed=1, truncation=0.5)
    files = sorted(path.name for path in Path("many").iterdir())
    assert files == [f"{i:05}.png" for i in range(12)]
    for image, name in zip(images, files, strict=True):
        pixels = np.asarray(Image.open(f"many/{name}"))
        assert pixels.shape == (8, 8) and np.abs(pixels / 127.5 - 1 - image[0].numpy()).max() <= 0.51 / 127.5

    sample(runs["labels"], "n=12", "label=3", "truncation=0.5", "out=grid.png")
    grid = np.asarray(Image.open("grid.png"))
    assert grid.shape == (3 * 58 + 2, 4 * 58 + 2, 3)
    assert np.array_equal(cell(grid, 1, 1), np.asarray(Image.open("many/00005.png")))


def test_grid_has_a_column_per_class_and_default_path_names_options(runs):
    sample(runs["labels"], "n=23")
    assert Image.open(runs["labels"][0] / "samples_seed1_n23.png").size == (10 * 58 + 2, 3 * 58 + 2)
    sample(runs["labels"], "n=2", "label=9", "seed=4", "truncation=0.7")
    assert (runs["labels"][0] / "samples_label9_truncation0.7_seed4_n2.png").exists()
    sample(runs["plain"], "n=10", "out=b.png")
    assert Image.open("b.png").size == (4 * 58 + 2, 3 * 58 + 2)


def test_member_of_an_ensemble_is_named(make_run, tmp_path, capsys):
    make_run(tmp_path / "run", classes=0, seeds=[4, 5])
    sample([tmp_path / "run"], "n=2", "run_seed=5")
    assert (tmp_path / "run" / "samples_run_seed5_seed1_n2.png").exists()
    assert "2 samples of digits-test, run_seed 5, seed 1\n" in capsys.readouterr().out


def test_points_as_png_and_npy(runs):
    sample(runs["points"], "n=100", "out=points.png")
    sample(runs["points"], "n=100", "out=points.npy")
    assert Image.open("points.png").width > 300
    assert np.allclose(np.load("points.npy"), runs["points"][1].sample(100, seed=1).numpy(), atol=1e-6)
    with pytest.raises(ValueError, match=r"samples \[2\] cannot be PNG files, got out=folder"):
        sample(runs["points"], "out=folder")


@pytest.mark.parametrize(
    "name, words, sentence",
    [
        ("labels", ["n=0"], "n must be an integer of at least 1, got 0"),
        ("labels", ["n=-4"], "n must be an integer of at least 1, got -4"),
        ("labels", ["seed=-1"], "seed must be an integer of at least 0, got -1"),
        ("labels", ["label=10"], r"labels must be integers in 0 … 9, got \[10\]"),
        ("labels", ["label=-1"], r"labels must be integers in 0 … 9, got \[-1\]"),
        ("plain", ["label=0"], "this GAN is unconditional"),
        ("labels", ["truncation=0"], "truncation must be above 0"),
        ("labels", ["out=x.jpg"], "out= must end in .png or .npy, or name a directory, got x.jpg"),
        ("labels", ["out=full"], "out=full exists and is not an empty directory"),
        ("labels", ["n=1000000", "out=x.png"], "a grid of 1,000,000 images would have .* pixels; write single files"),
        ("labels", ["run_seed=3"], "is of a single run, not of an ensemble, got seed 3; leave it out"),
    ],
)
def test_sample_errors_are_one_sentence_and_leave_nothing(runs, tmp_path, name, words, sentence):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ValueError, match=sentence):
        sample(runs[name], *(["out=x.npy"] if "out" not in " ".join(words) else []), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize("out", ["x.npy", "x.png", "folder"])
@pytest.mark.parametrize(
    "trouble", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"]
)
def test_full_disk_or_interruption_leaves_nothing(runs, tmp_path, monkeypatch, out, trouble):
    generate, calls = type(runs["plain"][1]).generate, []

    def fails_later(self, z, y=None):
        calls.append(len(z))
        if len(calls) == 3:
            raise trouble
        return generate(self, z, y)

    monkeypatch.setattr("ganlab.models.gan.GAN.generate", fails_later)
    with pytest.raises((ValueError, type(trouble))) as actual:
        sample(runs["plain"], "n=1800", f"out={out}")
    assert not list(tmp_path.iterdir())
    if isinstance(trouble, OSError) and out != "x.png":  # a picture is written once all samples are there
        assert str(actual.value) == f"{out} cannot be written (No space left on device); choose another place with out="


# interpolate


NETWORKS = {
    "mlp": lambda: MLPGenerator(5, (1, 8, 8), [16], bounded=True, num_classes=4),
    "dcgan": lambda: DCGANGenerator(5, 1, 8, 4, num_classes=4),
    "cbn": lambda: DCGANGenerator(5, 1, 8, 4, norm="conditional_batch", num_classes=4),
    "resnet": lambda: ResNetGenerator(5, 1, 28, 2, norm="conditional_batch", num_classes=4),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_one_hot_weights_equal_the_label(network):
    torch.manual_seed(0)
    net = NETWORKS[network]().eval()
    for parameter in net.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    z, weights = torch.randn(4, 5), torch.eye(4)
    with torch.no_grad():
        pure, mixed = net(z, torch.arange(4)), net(z, (weights + weights.roll(1, 1)) / 2)
        assert torch.allclose(net(z, weights), pure, atol=1e-6)
        assert (mixed - pure).abs().max() > 1e-3 and (mixed - net(z, torch.arange(4).roll(-1))).abs().max() > 1e-3


def test_interpolation_ends_are_samples_of_both_seeds(runs):
    folder, gan = runs["labels"]
    interpolate.main([f"run={folder}", "from=3", "to=7", "label=2", "rows=4", "steps=5", "out=i.png"])
    grid = np.asarray(Image.open("i.png"))
    assert grid.shape == (4 * 58 + 2, 5 * 58 + 2, 3)
    for column, seed in ((0, 3), (4, 7)):
        for row, image in enumerate(gan.sample(4, 2, seed=seed)):
            assert np.abs(cell(grid, row, column) / 127.5 - 1 - image[0].numpy()).max() < 0.01


def test_label_interpolation_keeps_latents(runs):
    folder, gan = runs["labels"]
    interpolate.main([f"run={folder}", "from=3", "labels=2,9", "rows=3", "steps=4", "out=l.png"])
    grid = np.asarray(Image.open("l.png"))
    for column, label in ((0, 2), (3, 9)):
        for row, image in enumerate(gan.sample(3, label, seed=3)):
            assert np.abs(cell(grid, row, column) / 127.5 - 1 - image[0].numpy()).max() < 0.01


def test_gif_goes_there_and_back(runs, capsys):
    interpolate.main([f"run={runs['plain'][0]}", "rows=4", "steps=6", "out=i.gif"])
    gif = Image.open("i.gif")
    assert gif.n_frames == 10 and gif.size == (2 * 58 + 2, 2 * 58 + 2) and gif.info["loop"] == 0
    assert "4 rows of digits-test: seeds 1 to 2, in 6 steps\ni.gif" in capsys.readouterr().out


def test_interpolation_of_points_is_drawn(runs):
    interpolate.main([f"run={runs['points'][0]}", "out=p.png"])
    assert Image.open("p.png").width > 300


@pytest.mark.parametrize(
    "name, words, sentence",
    [
        ("plain", ["steps=1"], "steps must be an integer of at least 2, got 1"),
        ("plain", ["rows=0"], "rows must be an integer of at least 1, got 0"),
        ("plain", ["labels=1,2"], "this GAN is unconditional"),
        ("labels", ["labels=1,12"], r"labels must be integers in 0 … 9, got \[1, 12\]"),
        ("labels", ["labels=1"], "labels= must be two"),
        ("labels", ["labels=1,2", "label=3"], "exclude each other"),
        ("labels", ["out=x.npy"], "out= must end in .png or .gif, got x.npy"),
        ("labels", ["rows=3000"], "a grid of 30,000 images would have .* pixels; choose fewer rows= or steps="),
        ("points", ["out=x.gif"], "the paths of points are one picture, got out=x.gif"),
    ],
)
def test_interpolation_errors_are_one_sentence(runs, tmp_path, name, words, sentence):
    with pytest.raises(ValueError, match=sentence):
        interpolate.main([f"run={runs[name][0]}", *words])
    assert not list(tmp_path.iterdir())


# neighbors


def test_k_nearest_matches_scipy(monkeypatch):
    monkeypatch.setattr(neighbors, "BLOCK_SIZE", 128)
    random = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (1000, 1, 5, 5), generator=random, dtype=torch.uint8)
    x = torch.cat([train[[700, 3]], torch.randint(0, 256, (6, 1, 5, 5), generator=random, dtype=torch.uint8)])
    actual, indices = neighbors.k_nearest(x, train, 4, torch.device("cpu"))
    expected = cdist(x.flatten(1).numpy() / 127.5, train.flatten(1).numpy() / 127.5)
    assert np.allclose(actual, np.sort(expected, 1)[:, :4], rtol=1e-5, atol=1e-12)
    assert np.array_equal(indices, np.argsort(expected, 1)[:, :4])
    assert indices[:2, 0].tolist() == [700, 3] and actual[:2, 0].tolist() == [0, 0]
    assert neighbors.k_nearest(x, train[:3], 3, torch.device("cpu"))[1].sort(1).values.tolist() == [[0, 1, 2]] * 8


def test_neighbors_are_drawn_and_printed(runs, capsys):
    neighbors.main([f"run={runs['labels'][0]}", "n=3", "k=2", "out=n.png"])
    printed = capsys.readouterr().out
    assert "neighbor 2" in printed and "Distance of 360 held-out real images to their nearest training image: 2.182" in printed
    picture = Image.open("n.png")
    assert picture.height > picture.width > 200


@pytest.mark.parametrize(
    "name, words, sentence",
    [
        ("labels", ["n=0"], "n must be an integer in 1 … 100, got 0"),
        ("labels", ["n=101"], "n must be an integer in 1 … 100, got 101"),
        ("labels", ["k=0"], "k must be an integer in 1 … 20, got 0"),
        ("points", [], "ring-test generates points"),
    ],
)
def test_neighbors_errors_are_one_sentence(runs, name, words, sentence):
    with pytest.raises(ValueError, match=sentence):
        neighbors.main([f"run={runs[name][0]}", *words])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_not_drawn(bad):
    batches = [torch.zeros(3, 1, 8, 8), torch.full((3, 1, 8, 8), bad)]
    with pytest.raises(ValueError, match="samples are not finite, its training diverged; choose another checkpoint"):
        list(sample_verb.with_progress(batches, 6))


@pytest.mark.parametrize("shape", [(7,), (1, 64)])
def test_samples_of_other_shapes_are_not_drawn(tmp_path, shape):
    with pytest.raises(ValueError, match="cannot be drawn; choose out=\\*.npy"):
        draw_samples(tmp_path / "a.png", None, torch.zeros(3, *shape), 2, None)
    assert not list(tmp_path.iterdir())
