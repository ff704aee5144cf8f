"""Loading a run restores it; loading an untrusted file executes nothing."""

import os
import pickle
import sys

import pytest
import torch
from hydra.utils import instantiate

import ganlab
from ganlab.losses import CGAN
from ganlab.models.gan import GAN


def config_of(**gan):
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-2, "betas": [0.5, 0.9], "fused": True}
    networks = {"channels": 2, "size": 8, "width": 4}
    return {
        "seed": 3,
        "gan": {
            "_target_": "ganlab.CGAN",
            "generator": {
                "_target_": "ganlab.networks.DCGANGenerator", "latent_dim": 5, "norm": "batch", "num_classes": 3, **networks
            },
            "discriminator": {
                "_target_": "ganlab.networks.DCGANDiscriminator", "spectral_norm": False, "projection_classes": 3, **networks
            },
            "generator_optimizer": adam,
            "discriminator_optimizer": adam,
            "conditioning": {"_target_": "ganlab.models.conditioning.ClassLabels", "num_classes": 3},
            "regularizers": {"r1": {"_target_": "ganlab.regularizers.R1", "gamma": 1.0}},
            **gan,
        },
    }  # fmt: skip


@pytest.fixture
def run(tmp_path, fit, make_batches):
    """A trained GAN and its run directory."""
    config = config_of()
    torch.manual_seed(0)
    gan = instantiate(config["gan"], _convert_="all")
    gan.run_config = config
    trainer = fit(gan, make_batches(5, shape=(2, 8, 8)))
    (tmp_path / "checkpoints").mkdir()
    trainer.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    return gan, tmp_path


@pytest.fixture
def forge(run, tmp_path):
    """Writes a copy of the run's checkpoint, changed by `change`."""

    def forge(change):
        content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        path = tmp_path / "forged.ckpt"
        torch.save(change(content) or content, path)
        return path

    return forge


@pytest.mark.parametrize("via", ["folder", "file", "string"])
def test_loaded_run_gives_the_same_samples(run, via):
    gan, folder = run
    path = {"folder": folder, "file": folder / "checkpoints" / "last.ckpt", "string": str(folder)}[via]
    loaded = ganlab.load(path)
    assert type(loaded) is CGAN and not loaded.training
    y = torch.tensor([0, 2, 1, 1])
    assert torch.equal(loaded.sample(4, y, seed=7), gan.sample(4, y, seed=7))
    assert loaded.state_dict().keys() == gan.state_dict().keys()
    assert (loaded.images_seen, loaded.d_updates, loaded.g_updates) == (30, 5, 5)
    assert loaded.run_config == gan.run_config


@pytest.mark.filterwarnings("error")
def test_loading_warns_of_nothing(forge):
    def unconstrained(content):
        content["ganlab"]["config"]["gan"]["_target_"] = "ganlab.WGAN"

    assert type(ganlab.load(forge(unconstrained))) is ganlab.WGAN


def test_stateful_and_nested_parts_are_restored(tmp_path, fit, make_batches):
    """A family with settings, AC-GAN's classifier, a learned prior, LeCam's averages, a transform inside a penalty."""
    ours = "ganlab.regularizers"
    config = config_of(
        _target_="ganlab.AlphaGAN",
        alpha_d=0.5,
        conditioning={
            "_target_": "ganlab.models.conditioning.AuxiliaryClassifier", "num_classes": 3, "weight": 1.0,
            "prior": {"_target_": "ganlab.models.conditioning.Marginal", "num_classes": 3},
        },
        regularizers={
            "lecam": {"_target_": f"{ours}.LeCam", "weight": 1.0, "start": 2},
            "bcr": {
                "_target_": f"{ours}.Consistency", "weight": 1.0,
                "transform": {"_target_": f"{ours}.DiffAugment", "color": False, "translation": 0.25, "cutout": 0.0},
            },
        },
    )  # fmt: skip
    discriminator = config["gan"]["discriminator"]
    discriminator["auxiliary_classes"] = discriminator.pop("projection_classes")
    gan = instantiate(config["gan"], _convert_="all")
    gan.run_config = config
    gan.conditioning.fit_prior(torch.tensor([0, 2, 2, 2]))
    fit(gan, make_batches(5, shape=(2, 8, 8))).save_checkpoint(tmp_path / "a.ckpt")
    loaded = ganlab.load(tmp_path / "a.ckpt")
    assert (loaded.alpha_d, loaded.alpha_g) == (0.5, 1.0)
    state, expected = loaded.state_dict(), gan.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected if name != "_extra_state")
    assert state["conditioning.prior.frequencies"].tolist() == [0.25, 0.0, 0.75]
    assert state["regularizers.lecam.real_average"] != 0
    assert torch.equal(loaded.sample(4, seed=7), gan.sample(4, seed=7))


def test_best_checkpoint_is_preferred_to_the_last(run, forge):
    _, folder = run

    def later(content):
        content["state_dict"]["_extra_state"]["images_seen"] = 77

    forge(later).rename(folder / "checkpoints" / "best.ckpt")
    assert ganlab.load(folder).images_seen == 77
    assert ganlab.load(folder / "checkpoints" / "last.ckpt").images_seen == 30


def test_loaded_gan_can_be_trained(run, fit, make_batches):
    loaded = ganlab.load(run[1])
    fit(loaded, make_batches(2, shape=(2, 8, 8)))
    assert (loaded.images_seen, loaded.d_updates, loaded.g_updates) == (42, 7, 7)


def test_missing_checkpoint_raises_file_not_found(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "no.ckpt"):
        with pytest.raises(FileNotFoundError, match="no checkpoint at .*; give a run's directory"):
            ganlab.load(path)


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(run, tmp_path, keep):
    content = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(ValueError, match="cut.ckpt is no checkpoint of a ganlab run, or is not whole"):
        ganlab.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"\x00" * 400,
        bytes(range(256)) * 8,
        b"PK\x03\x04" + b"x" * 300,
        b"\x80\x02}q\x00.",
        b"\x89PNG\r\n\x1a\n" * 9,
    ],
    ids=["text", "zeros", "bytes", "zip", "dict", "png"],
)
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="foreign.ckpt is no checkpoint of a ganlab run"):
        ganlab.load(path)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        {},
        "text",
        None,
        {"ganlab": {"config": None}, "state_dict": {}},
        {"ganlab": {"config": {"gan": None}}, "state_dict": {}},
        {"ganlab": {"config": {"gan": {}}}, "state_dict": {}},
        {"ganlab": {"config": {"gan": "ganlab.CGAN"}}, "state_dict": {}},
        {"ganlab": {"config": {"gan": {"_target_": "ganlab.regularizers.R1", "gamma": 1.0}}}, "state_dict": {}},
        {"ganlab": {"config": {"gan": {"_target_": 3}}}, "state_dict": {}},
        {"ganlab": {"config": config_of()}},
    ],
    ids=lambda c: str(c)[:40],
)
def test_other_torch_files_are_refused(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="other.ckpt is no checkpoint|the run names"):
        ganlab.load(path)


def test_weights_that_do_not_fit_the_config_are_refused(forge):
    def lose_a_weight(content):
        del content["state_dict"]["generator.stem.weight"]

    with pytest.raises(ValueError, match="forged.ckpt is no checkpoint of a ganlab run, or is not whole"):
        ganlab.load(forge(lose_a_weight))


def test_error_names_the_version_of_the_checkpoint(forge):
    def older(content):
        content["ganlab"]["version"] = "0.0.7"
        del content["state_dict"]["generator.stem.weight"]

    with pytest.raises(
        ValueError, match=rf"it is of ganlab 0.0.7 and this is {ganlab.__version__}: load it with its own version"
    ):
        ganlab.load(forge(older))

    def with_an_unknown_argument(content):
        content["ganlab"]["version"] = "9.9"
        content["ganlab"]["config"]["gan"]["tempo"] = 2

    with pytest.raises(ValueError, match=r"its config cannot be built: .*tempo.*; it is of ganlab 9.9"):
        ganlab.load(forge(with_an_unknown_argument))


def test_fitting_checkpoint_of_another_version_is_loaded(run, forge):
    path = forge(lambda content: content["ganlab"].update(version="0.0.7"))
    assert torch.equal(ganlab.load(path).sample(3, 1, seed=2), run[0].sample(3, 1, seed=2))


@pytest.mark.parametrize(
    "counters", [None, {"sample": 3}, {"images_seen": "x", "d_updates": 1, "g_updates": 1, "d_steps_since_g": 0}], ids=str
)
def test_invalid_counters_are_refused(forge, counters):
    """They become attributes of the GAN."""
    path = forge(lambda content: content["state_dict"].update(_extra_state=counters))
    with pytest.raises(ValueError, match="its counters are not ganlab's"):
        ganlab.load(path)


@pytest.mark.parametrize("seeds", [[1, 2], "12", {}, [[1]]], ids=str)
def test_invalid_seeds_of_an_ensemble_are_refused(forge, seeds):
    path = forge(lambda content: content["ganlab"].update(seeds=seeds))
    with pytest.raises(ValueError, match="forged.ckpt is no checkpoint of a ganlab run"):
        ganlab.load(path)


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [True, False])
def test_planted_pickle_does_not_run(run, tmp_path, legacy):
    victim = tmp_path / "victim"
    path = tmp_path / "evil.ckpt"
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    content["optimizer_states"] = Payload(f"touch {victim}")
    if legacy:
        path.write_bytes(pickle.dumps(content["optimizer_states"]))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="evil.ckpt is no checkpoint of a ganlab run"):
        ganlab.load(path)
    assert not victim.exists()
    if legacy:
        pickle.loads(path.read_bytes())  # the payload is live: whoever unpickles it runs it
        assert victim.exists()


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """An importable module whose import and whose function leave a trace in a file."""
    victim = tmp_path / "victim"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "stranger.py").write_text(
        "from pathlib import Path\n"
        "from sysconfig import get_path\n"
        "from ganlab import NonSaturatingGAN\n"
        f"trace = Path({str(victim)!r})\n"
        "trace.write_text(trace.read_text() + 'imported ' if trace.exists() else 'imported ')\n"
        "def run(*args, **kwargs):\n    trace.write_text('called')\n"
        "class Mine(NonSaturatingGAN):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield victim
    sys.modules.pop("stranger", None)


UNTRUSTED = [
    "os.system",
    "stranger.run",
    "stranger.Mine",
    "builtins.eval",
    "ganlab.runs.run_dir.os.system",
    "ganlab.runs.loading.torch.load",
    "ganlab.runs.loading.load",
    "ganlab.losses.wgan.GAN.load_from_checkpoint",
    "ganlab.runs.loading.Sequence",
    "ganlab.runs.loading.Path",
    "torch.optim.Adam.step",
    "torch.load",
    "torch.optimizers.evil",
    "ganlabx.Evil",
]


def at_top(gan, target):
    gan["_target_"] = target


def at_generator(gan, target):
    gan["generator"]["_target_"] = target


def in_a_list(gan, target):
    gan["regularizers"] = {"r1": [[{"_target_": target, "_args_": ["x"]}]]}


def in_a_tuple(gan, target):
    gan["regularizers"] = {"r1": ({"_target_": target, "_args_": ["x"]},)}


def in_an_interpolation(gan, target):
    gan["regularizers"] = {"r1": f"${{oc.create:{{_target_:{target},_args_:[x]}}}}"}


def in_an_interpolated_name(gan, target):
    gan["regularizers"] = {"name": target, "r1": {"_target_": "${..name}", "_args_": ["x"]}}


def as_partial(gan, target):
    gan["generator_optimizer"] = {"_target_": target, "_partial_": True}


@pytest.mark.parametrize("target", UNTRUSTED)
def test_config_naming_untrusted_code_is_refused(forge, stranger, target):
    path = forge(lambda content: at_generator(content["ganlab"]["config"]["gan"], target))
    with pytest.raises(ValueError, match=f"the run names .*{target.rpartition('.')[2]}, which is not ganlab's; .* pass trust="):
        ganlab.load(path)
    assert not stranger.exists()


def test_unknown_class_is_refused(forge):
    path = forge(lambda content: at_generator(content["ganlab"]["config"]["gan"], "ganlab.networks.OfALaterVersion"))
    with pytest.raises(ValueError, match="the run names ganlab.networks.OfALaterVersion, which "):
        ganlab.load(path)


@pytest.mark.parametrize(
    "hide", [at_top, at_generator, in_a_list, in_a_tuple, in_an_interpolation, in_an_interpolated_name, as_partial]
)
@pytest.mark.parametrize("target", ["stranger.run", "pathlib.PurePath"])
def test_untrusted_code_is_found_anywhere_in_the_config(forge, stranger, hide, target):
    path = forge(lambda content: hide(content["ganlab"]["config"]["gan"], target))
    with pytest.raises(ValueError, match="the run names"):
        ganlab.load(path)
    assert not stranger.exists()


def test_interpolations_in_a_checkpoint_are_refused(forge, monkeypatch):
    """The config of a checkpoint is resolved and has none."""
    monkeypatch.setenv("SECRET", "5")

    def plant(content):
        content["ganlab"]["config"]["gan"]["generator"]["latent_dim"] = "${oc.decode:${oc.env:SECRET}}"

    with pytest.raises(ValueError, match="the run names"):
        ganlab.load(forge(plant))


def test_trusted_module_is_loaded(forge, stranger):
    path = forge(lambda content: at_top(content["ganlab"]["config"]["gan"], "stranger.Mine"))
    with pytest.raises(ValueError, match=r"trust=\['stranger'\]"):
        ganlab.load(path)
    assert not stranger.exists()
    gan = ganlab.load(path, trust=["stranger"])
    assert type(gan).__name__ == "Mine" and isinstance(gan, GAN)
    assert stranger.read_text() == "imported "
    with pytest.raises(ValueError, match="the run names stranger.Mine"):
        ganlab.load(path, trust=["strange"])  # a prefix of the name is not the module


def test_trust_does_not_extend_to_imports(forge, stranger):
    path = forge(lambda content: at_generator(content["ganlab"]["config"]["gan"], "stranger.Path"))
    with pytest.raises(ValueError, match=r"the run names pathlib.*Path, .* trust=\['stranger', 'pathlib'\]"):
        ganlab.load(path, trust=["stranger"])


def test_function_of_a_trusted_module_makes_an_optimizer(forge, stranger):
    path = forge(lambda content: as_partial(content["ganlab"]["config"]["gan"], "stranger.run"))
    assert isinstance(ganlab.load(path, trust=["stranger"]), GAN)
    assert stranger.read_text() == "imported "  # it is called when training starts


@pytest.mark.parametrize("target", ["ganlab.utils.files.atomic_write", "stranger.get_path"])
def test_function_of_another_module_is_refused(forge, stranger, target):
    path = forge(lambda content: as_partial(content["ganlab"]["config"]["gan"], target))
    with pytest.raises(ValueError, match=r"the run names (ganlab.utils.files.atomic_write|sysconfig.get_path),"):
        ganlab.load(path, trust=["stranger"])
