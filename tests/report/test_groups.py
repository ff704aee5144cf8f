"""Grouping runs into settings and rankings, and naming the groups."""

import json
import os

import pytest
from run_factory import make_protocol, scores, write_ensemble, write_run

from ganlab.report.groups import differing_fields, group_runs
from ganlab.report.runs import find_runs
from ganlab.runs.run_dir import RunDir


def names(path):
    return [[group.name for group in groups] for groups in group_runs(find_runs([path]))]


def test_seeds_of_one_config_are_one_group(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a{seed}", [scores(8, 0.1)], seed=seed)
    ((group,),) = group_runs(find_runs([tmp_path]))
    assert [seed.seed for seed in group.seeds] == [1, 2, 3]
    assert group.name == "ns"


@pytest.mark.parametrize("members", [(1, 2), (1,)], ids=["several", "one"])
def test_ensemble_member_is_not_the_single_run_of_its_seed(tmp_path, members):
    """They draw other batches and latents: none replaces the other, and the name says which is which."""
    for n_critic in (1, 5):
        write_run(tmp_path / f"{n_critic}", [scores(8, 0.1)], n_critic=n_critic)
    write_ensemble(tmp_path / "members", {seed: scores(7, 0.3) for seed in members})
    (groups,) = group_runs(find_runs([tmp_path]))
    assert {group.name: ([seed.seed for seed in group.seeds], group.replaced) for group in groups} == {
        "ns n_critic=1": ([1], 0), "ns n_critic=5": ([1], 0), "ns n_critic=1 (ensemble)": ([*members], 0),
    }  # fmt: skip


def test_names_hold_only_what_differs(tmp_path):
    write_run(tmp_path / "1", [scores(8, 0.1)], loss="minimax", pack=1)
    write_run(tmp_path / "2", [scores(8, 0.1)], loss="ns", pack=1, overrides=("optimizer=adam", "gan.pack=1"))
    write_run(tmp_path / "3", [scores(8, 0.1)], loss="ns", pack=2, overrides=("gan.pack=2",))
    write_run(tmp_path / "4", [scores(8, 0.1)], loss="ns", pack=2, n_critic=5, overrides=("+gan.n_critic=5", "gan.pack=2"))
    write_run(tmp_path / "5", [scores(8, 0.1)], loss="my_gan.MyGAN")
    (tmp_path / "5" / "config.yaml").write_text((tmp_path / "5" / "config.yaml").read_text().replace("ganlab.my_gan", "my_gan"))
    (group_names,) = names(tmp_path)
    assert group_names == ["minimax", "ns pack=1", "ns pack=2", "ns pack=2 n_critic=5", "my_gan.MyGAN"]


def test_losses_of_one_name_are_told_apart_by_module(tmp_path):
    for module in ("first", "second.best"):
        write_run(tmp_path / module, [scores(8, 0.1)], loss="MyGAN", overrides=(f"gan._target_={module}.MyGAN",))
        config = tmp_path / module / "config.yaml"
        config.write_text(config.read_text().replace("ganlab.MyGAN", f"{module}.MyGAN"))
    assert names(tmp_path / "first") == [["MyGAN"]]
    assert names(tmp_path) == [["MyGAN of first", "MyGAN of second.best"]]


def test_loss_with_replaced_class_is_named_by_its_class(tmp_path):
    write_run(tmp_path / "1", [scores(8, 0.1)], loss="ns")
    write_run(tmp_path / "2", [scores(0, 4.5)], loss="ns", overrides=("gan._target_=ganlab.WGAN",))
    config = tmp_path / "2" / "config.yaml"
    config.write_text(config.read_text().replace("NonSaturatingGAN", "WGAN"))
    assert names(tmp_path) == [["ns", "WGAN"]]


def test_override_of_one_group_alone_is_always_named(tmp_path):
    """Its loss would tell it apart, and hide that its rate is another one's."""
    optimized(tmp_path / "a", (1e-3, 1e-3), ())
    optimized(tmp_path / "b", (3e-4, 1e-3), ("optimizer.generator.lr=3e-4",))
    config, overrides = tmp_path / "b" / "config.yaml", tmp_path / "b" / "command.yaml"
    config.write_text(config.read_text().replace("NonSaturatingGAN", "RpGAN"))
    overrides.write_text(overrides.read_text().replace("loss=ns", "loss=rpgan"))
    assert names(tmp_path) == [["ns", "rpgan generator.lr=3e-4"]]


def test_names_without_overrides_come_from_the_config(tmp_path):
    for rate in (0.001, 0.0002):
        path = write_run(tmp_path / f"{rate}", [scores(8, 0.1)], optimizer={"lr": rate})
        (path / "command.yaml").unlink()
    assert names(tmp_path) == [["NonSaturatingGAN lr=0.0002", "NonSaturatingGAN lr=0.001"]]


@pytest.mark.parametrize(
    "where, old, new",
    [
        ("eval_every", "eval_every: 20000", "eval_every: 5000"),
        ("data_dir", "data_dir: data", "data_dir: elsewhere"),
        ("trainer.log_every_n_steps", "accelerator: cpu", "accelerator: gpu\n  log_every_n_steps: 9"),
        ("metrics.batch_size", "samples: 2500", "samples: 2500\n  batch_size: 10"),
        ("monitor", "seeds: null", "seeds: null\nmonitor: {on_verdict: warn}"),
        ("label_prior of an unconditional GAN", "seeds: null", "seeds: null\nlabel_prior: {_target_: Marginal}"),
    ],
)
def test_where_and_how_often_a_run_is_evaluated_is_no_setting(tmp_path, where, old, new):
    write_run(tmp_path / "a", [scores(8, 0.1)], overrides=("eval_every=1",))
    other = write_run(tmp_path / "b", [scores(8, 0.1)], seed=2, overrides=("eval_every=2", "data_dir=there")) / "config.yaml"
    assert old in other.read_text()
    other.write_text(other.read_text().replace(old, new))
    ((group,),) = group_runs(find_runs([tmp_path]))
    assert (group.name, [seed.seed for seed in group.seeds]) == ("ns", [1, 2])


R1, R2 = {"_target_": "ganlab.regularizers.R1", "gamma": 1.0}, {"_target_": "ganlab.regularizers.R2", "gamma": 1.0}


def test_regularizers_are_named_first_with_the_values_that_differ(tmp_path):
    write_run(tmp_path / "1", [scores(8, 0.1)], regularizers={}, overrides=("networks.width=64",), width=64)
    write_run(tmp_path / "2", [scores(8, 0.1)], regularizers={"r1": R1}, overrides=("networks.width=128",), width=128)
    write_run(tmp_path / "3", [scores(8, 0.1)], regularizers={"r1": R1, "r2": R2}, overrides=("regularizer=[r1,r2]",))
    write_run(
        tmp_path / "4",
        [scores(8, 0.1)],
        regularizers={"r1": R1 | {"gamma": 10.0}, "r2": R2},
        overrides=("regularizer=[r1,r2]",),
    )
    assert names(tmp_path) == [["ns", "ns + r1", "ns + r1 r2 r1.gamma=1.0", "ns + r1 r2 r1.gamma=10.0"]]


@pytest.mark.parametrize("typed", [("regularizer=[r2]",), ("regularizer.r2.gamma=1.0",)])
def test_regularizers_of_an_experiment_are_named_beside_typed_ones(tmp_path, typed):
    write_run(tmp_path / "1", [scores(8, 0.1)], regularizers={"r2": R2}, overrides=typed)
    write_run(tmp_path / "2", [scores(8, 0.1)], loss="ls", regularizers={"r1": R1}, overrides=("+experiment=my",))
    write_run(tmp_path / "3", [scores(8, 0.1)], loss="minimax", regularizers={})
    (group_names,) = names(tmp_path)
    assert [name.removesuffix(" r2.gamma=1.0") for name in group_names] == ["ns + r2", "ls + r1", "minimax"]


def optimized(folder, rates, overrides=(), preset=None):
    """A run with these learning rates of G and D, as the presets of conf/optimizer leave it in a config."""
    g, d = ({"_target_": "torch.optim.Adam", "lr": rate} for rate in rates)
    write_run(folder, [scores(8, 0.1)], generator_optimizer=g, discriminator_optimizer=d, overrides=overrides)
    config = folder / "config.yaml"
    config.write_text(config.read_text() + f"optimizer: {json.dumps({'generator': g, 'discriminator': d})}\n")
    if preset:
        run_dir = RunDir(folder)
        run_dir.write_command(run_dir.read_command().overrides, {"loss": "ns", "optimizer": preset})


def test_sweep_over_optimizers_is_named_by_preset_or_rate(tmp_path):
    for rate, preset in ((2e-4, "adam"), (1e-3, "adam_fast")):
        optimized(tmp_path / "typed" / preset, (rate, rate), (f"optimizer={preset}",), preset)
        optimized(tmp_path / "chosen" / preset, (rate, rate), (), preset)  # by an experiment's file
        optimized(tmp_path / "both" / preset, (rate, rate))
        optimized(tmp_path / "one" / preset, (rate, 1e-3), (f"optimizer.generator.lr={rate}",))
    assert names(tmp_path / "typed") == names(tmp_path / "chosen") == [["ns optimizer=adam", "ns optimizer=adam_fast"]]
    assert names(tmp_path / "both") == [["ns lr=0.0002", "ns lr=0.001"]]
    assert names(tmp_path / "one") == [["ns generator.lr=0.0002", "ns generator.lr=0.001"]]


def test_preset_without_effect_is_not_named(tmp_path):
    for i, preset in enumerate(("adam", "adam_fast")):
        optimized(tmp_path / preset, (1e-3, 1e-3), (f"data.num_workers={i}", f"gan.n_critic={i}"), preset)
        config = tmp_path / preset / "config.yaml"
        config.write_text(config.read_text().replace("n_critic: 1", f"n_critic: {i}"))
    assert names(tmp_path) == [["ns n_critic=0", "ns n_critic=1"]]


def set_start(folder, at):
    os.utime(folder / "config.yaml", (at, at))


STATES = {"finished": {}, "failed": {"error": "nan"}, "unfinished": {"finished": False}}


@pytest.mark.parametrize(
    "older, newer, counts",
    [
        ("finished", "finished", "newer"),
        ("finished", "failed", "newer"),
        ("failed", "finished", "newer"),
        ("unfinished", "finished", "newer"),
        ("unfinished", "failed", "newer"),
        ("unfinished", "unfinished", "newer"),
        ("finished", "unfinished", "older"),
        ("failed", "unfinished", "older"),
    ],
)
def test_repeated_seed_counts_once_the_newest_that_is_over(tmp_path, older, newer, counts):
    for at, (name, state) in enumerate({"older": older, "newer": newer}.items(), 1):
        set_start(write_run(tmp_path / name, [scores(8, 0.1)], **STATES[state]), at)
    ((group,),) = group_runs(find_runs([tmp_path]))
    assert [run.name for run in group.runs] == [counts]
    assert group.replaced == 1


def test_unfinished_ensemble_counts_only_for_seeds_without_a_result(tmp_path):
    set_start(write_ensemble(tmp_path / "before", {seed: scores(8, 0.1) for seed in (1, 2)}), 1)
    set_start(write_ensemble(tmp_path / "again", {seed: scores(8, 0.1) for seed in (1, 2, 3)}, finished=False), 9)
    ((group,),) = group_runs(find_runs([tmp_path]))
    assert [(seed.seed, seed.status) for seed in group.seeds] == [(1, "finished"), (2, "finished"), (3, "unfinished")]
    assert group.replaced == 0


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"ema": 0.0}, "EMA of the generator"),
        ({"budget": 120_000}, "budget (real images)"),
        ({"card": make_protocol(fingerprint="cd" * 32)}, "data fingerprint"),
        ({"card": make_protocol(samples=10_000)}, "N (samples per evaluation)"),
        ({"card": make_protocol(extractor={"name": "classifier", "sha256": "ef" * 32})}, "extractor hash"),
        ({"card": make_protocol(resolution=[1, 28, 28])}, "resolution"),
        ({"card": make_protocol(reference="train split")}, "split"),
        ({"measured": {"precision": "bf16-mixed"}}, "precision"),
    ],
)
def test_different_protocols_are_different_rankings(tmp_path, changes, field):
    write_run(tmp_path / "a", [scores(8, 0.1)], loss="ns")
    write_run(tmp_path / "b", [scores(8, 0.1)], loss="ns", seed=2)
    write_run(tmp_path / "c", [scores(8, 0.1)], loss="ls", **changes)
    rankings = group_runs(find_runs([tmp_path]))
    assert [[group.name for group in groups] for groups in rankings] == [["ns"], ["ls"]]
    fields = differing_fields([groups[0].protocol for groups in rankings])
    assert field in fields
    assert {name for name in fields if not name.startswith("extractor")} <= {field}


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"card": make_protocol(fingerprint="cd" * 32)}, "data fingerprint"),
        ({"card": make_protocol(extractor={"name": "classifier", "sha256": "ef" * 32})}, "extractor hash"),
        ({"measured": {"precision": "bf16-mixed"}}, "precision"),
    ],
)
def test_seeds_of_one_config_under_two_protocols_are_two_groups(tmp_path, changes, field):
    for seed in (1, 2):
        write_run(tmp_path / f"a{seed}", [scores(8, 0.1)], seed=seed)
    write_run(tmp_path / "b", [scores(8, 0.1)], seed=3, **changes)
    rankings = group_runs(find_runs([tmp_path]))
    seeds = [[(group.name, [seed.seed for seed in group.seeds]) for group in groups] for groups in rankings]
    assert seeds == [[("ns", [1, 2])], [("ns", [3])]]
    assert field in differing_fields([groups[0].protocol for groups in rankings])


def test_run_without_result_joins_the_protocol_of_its_neighbors_in_time(tmp_path):
    """Four seeds, and the same on other data, of which one failed and one was killed."""
    again = make_protocol(fingerprint="cd" * 32)
    for at, (seed, state) in enumerate(((1, "finished"), (2, "failed"), (3, "unfinished"), (4, "finished"))):
        set_start(write_run(tmp_path / f"before{seed}", [scores(8, 0.1)], seed=seed), 100 + at)
        set_start(write_run(tmp_path / f"then{seed}", [scores(8, 0.1)], seed=seed, card=again, **STATES[state]), 1000 + at)
    rankings = group_runs(find_runs([tmp_path]))
    states = {group.metric_protocol["fingerprint"][:2]: [seed.status for seed in group.seeds] for (group,) in rankings}
    assert states == {"ab": ["finished"] * 4, "cd": ["finished", "failed", "unfinished", "finished"]}


def test_other_seeds_devices_and_batch_sizes_share_a_ranking(tmp_path):
    write_run(tmp_path / "a", [scores(8, 0.1)], seed=1)
    write_run(tmp_path / "b", [scores(8, 0.1)], seed=2, loss="ls", measured={"device": "another", "versions": {"torch": "3"}})
    batch = tmp_path / "c" / "config.yaml"
    write_run(tmp_path / "c", [scores(8, 0.1)], seed=2, loss="ls")
    batch.write_text(batch.read_text().replace("batch_size: 128", "batch_size: 256"))
    (groups,) = group_runs(find_runs([tmp_path]))
    assert sorted(group.name for group in groups) == ["ls batch_size=128", "ls batch_size=256", "ns"]


def test_group_that_only_crashed_stays_in_its_ranking(tmp_path):
    write_run(tmp_path / "a", [scores(8, 0.1)])
    write_run(tmp_path / "b", None, loss="wgan", error="the loss is nan")
    (groups,) = group_runs(find_runs([tmp_path]))
    assert sorted(group.name for group in groups) == ["ns", "wgan"]
