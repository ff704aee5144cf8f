"""Messages of Python, torch and Hydra as one sentence."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate

from ganlab.cli.errors import explain
from ganlab.config.paths import conf_folder
from ganlab.config.resolvers import file_name
from ganlab.utils.errors import describe_error


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss", "'loss' cannot be read; type KEY=VALUE, and quote a VALUE that is not plain: 'name=\"a b\"'"),
        ("+seed=2", "Could not append to config. An item is already at 'seed'. Either remove + prefix: 'seed=2'"),
        ("seed=1,2", "seed=1,2 has several values; -m runs one after another, and [1,2] is a list"),
        ("hydra.mode=x", "Error merging override hydra.mode=x (Invalid value 'x', expected one of [RUN, MULTIRUN])"),
    ],
)
def test_refusals_of_hydra_become_one_line(override, sentence):
    with initialize_config_dir(conf_folder(), version_base="1.3"), pytest.raises(HydraException) as caught:
        compose("config", [override])
    assert explain(caught.value).splitlines()[0].startswith(sentence)


def test_wrong_learning_rate_names_the_key():
    with pytest.raises(ValueError) as caught:
        torch.optim.Adam([torch.zeros(1)], lr=-1.0)
    assert explain(caught.value).startswith("a learning rate must be at least 0, got -1.0; correct optimizer.generator.lr or")


def test_loss_of_probabilities_is_pointed_to_logits():
    with pytest.raises(RuntimeError) as caught:
        torch.nn.functional.binary_cross_entropy(torch.tensor([2.0]), torch.ones(1))
    assert explain(caught.value).startswith("a loss takes probabilities and got logits")


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 60},
            "CosineAnnealingLR is called when training starts, with the optimizer; write _partial_: true beside its _target_",
        ),
        (
            {"_target_": "torch.optim.Adam", "lr": 1e-3},
            "Adam is called when training starts, with the params; write _partial_: true beside its _target_",
        ),
        ({"_target_": "ganlab.data.TensorData"}, "TensorData does not define the method load; write it"),
        (
            {"_target_": "torch.optim.RAdam", "params": [], "fused": True},
            "RAdam has no setting fused; correct its name, or leave it out (with ~ before its whole key where a preset brings it)",
        ),
    ],
)
def test_part_that_cannot_be_built_is_explained(part, sentence):
    with pytest.raises(HydraException) as caught:
        instantiate(part)
    assert explain(caught.value).splitlines()[0] == sentence


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "..", "", "é" * 200, "a\nb"])
def test_run_name_makes_one_directory(name):
    made = file_name(name)
    assert "/" not in made and made.isprintable() and 0 < len(made.encode()) < 200 and not made.startswith(".")


def test_error_without_a_message_says_where_it_was_raised():
    try:
        raise AssertionError
    except AssertionError as error:
        line = error.__traceback__.tb_lineno
        assert describe_error(error) == f"AssertionError in {__file__}, line {line}"
