"""What runs left is read as it is, whatever is missing, and grouped into settings and protocols."""

import importlib.util
import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch

from ganlab.metrics.mode_coverage import OFF_MODE_MASS, mode_scores
from ganlab.report.cards import differing
from ganlab.report.grouping import group
from ganlab.report.runs import find_runs, higher_is_better, worst

spec = importlib.util.spec_from_file_location("folders", Path(__file__).parent / "folders.py")
folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folders)
single, ensemble, scores = folders.single, folders.ensemble, folders.scores


def test_a_single_run(tmp_path):
    (run,) = find_runs([single(tmp_path / "a", [scores(3, 0.9), scores(8, 0.02)], seed=7)])
    (seed,) = run.seeds
    assert (run.status, seed.seed, seed.status, run.together, run.images) == ("finished", 7, "finished", 1, 60_032)
    assert seed.images == [20_000, 40_000]
    assert seed.quality["quality/modes_2500"] == [3, 8]
    assert seed.final["quality/kl_with_off_mode_2500"] == 0.02
    assert not any(name.endswith("_real") for name in seed.quality)


def test_seconds_at_a_look_lie_between_the_rows_around_it(tmp_path):
    """Rows at 20,128 images (2 s) and 40,128 images (4 s): the look at 40,000 is 128 of 20,000 images before the 2nd."""
    (run,) = find_runs([single(tmp_path, [scores(3, 0.9), scores(8, 0.02)])])
    assert run.seeds[0].seconds[1] == pytest.approx(4 - 2 * 128 / 20_000)


def test_a_look_after_the_last_row_comes_later_than_it(tmp_path):
    """The rows end at 20,128 images and 2 s; at the same speed 40,000 images take 2 * 40,000 / 20,128 s."""
    single(tmp_path, [scores(3, 0.9), scores(8, 0.02)])
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    (tmp_path / "metrics.csv").write_text("\n".join(rows[:-1]) + "\n")
    (run,) = find_runs([tmp_path])
    assert run.seeds[0].seconds[1] == pytest.approx(2 * 40_000 / 20_128)


def test_an_infinite_result_is_null_in_json_and_infinite_here(tmp_path):
    (run,) = find_runs([single(tmp_path, [scores(0, 4.5)])])
    assert json.loads((tmp_path / "summary.json").read_text())["quality"]["quality/reverse_kl_2500"] is None
    assert run.seeds[0].final["quality/reverse_kl_2500"] == math.inf
    assert run.seeds[0].final["quality/modes_2500"] == 0


def test_an_ensemble(tmp_path):
    (run,) = find_runs([ensemble(tmp_path, {1: scores(8, 0.1), 2: None, 3: scores(5, 0.8)})])
    assert [(seed.seed, seed.status) for seed in run.seeds] == [(1, "finished"), (2, "failed"), (3, "finished")]
    assert run.together == 3
    assert run.seeds[2].final["quality/modes_2500"] == 5
    assert run.seeds[1].final == {}
    assert math.isnan(run.seeds[1].quality["quality/modes_2500"][0])
    assert run.seeds[0].seconds == [20, 60.032]


def test_nan_is_the_worst_there_is_of_a_single_run_and_of_a_copy(tmp_path):
    nan = scores(8, math.nan)
    single(tmp_path / "a", [nan])
    ensemble(tmp_path / "b", {1: nan, 2: nan})
    finals = [seed.final for run in find_runs([tmp_path]) for seed in run.seeds]
    assert [final["quality/reverse_kl_2500"] for final in finals] == [math.inf] * 3


def test_an_ensemble_that_crashed_failed_with_all_its_seeds(tmp_path):
    ensemble(tmp_path, {1: scores(8, 0.1), 2: scores(8, 0.1)}, over=False)
    (tmp_path / "summary.json").write_text(json.dumps({"name": "x", "status": "failed", "error": "out of memory"}))
    (run,) = find_runs([tmp_path])
    assert [seed.status for seed in run.seeds] == ["failed", "failed"]
    assert all(seed.final == {} for seed in run.seeds)


def test_a_run_without_a_summary_is_unfinished(tmp_path):
    (run,) = find_runs([single(tmp_path, [scores(3, 0.9)], over=False)])
    assert (run.status, run.seeds[0].status, run.seeds[0].final) == ("unfinished", "unfinished", {})
    assert run.seeds[0].quality["quality/modes_2500"] == [3]


def test_damaged_files_are_read_as_far_as_they_go(tmp_path):
    single(tmp_path / "half_a_line", [scores(3, 0.9), scores(8, 0.1)], over=False)
    table = tmp_path / "half_a_line" / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-9] + b"\0\0\xff,0.5,7,1")
    single(tmp_path / "no_json", [scores(3, 0.9)])
    (tmp_path / "no_json" / "summary.json").write_text('{"status": "fin')
    single(tmp_path / "no_yaml", [scores(3, 0.9)])
    (tmp_path / "no_yaml" / "config.yaml").write_text("{")
    ensemble(tmp_path / "seeds", {1: scores(8, 0.1), 2: scores(8, 0.1)})
    table = tmp_path / "seeds" / "seeds.csv"
    table.write_text(table.read_text() + "40000,1.0,\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "seeds.csv").write_text("")
    runs = {run.folder.name: run for run in find_runs([tmp_path])}
    assert runs["half_a_line"].seeds[0].quality["quality/modes_2500"] == [3, 8]
    assert runs["no_json"].status == "failed" and "cannot be read" in runs["no_json"].summary["error"]
    assert runs["no_yaml"].config == {} and runs["no_yaml"].seeds[0].status == "finished"
    assert len(runs["seeds"].seeds) == 2
    assert len(runs["empty"].seeds) == 1
    assert group(list(runs.values()))


def test_a_run_that_stopped_before_it_wrote_its_config(tmp_path):
    """Hydra's own, unresolved config puts it beside its siblings."""
    single(tmp_path / "seed=1", [scores(8, 0.1)], seed=1)
    lost = single(tmp_path / "seed=2", None, seed=2, error="could not build")
    (lost / "metrics.csv").unlink()
    config = (lost / "config.yaml").read_text().replace("eval_every: 20000", "eval_every: ${max_images_of.looks}")
    config += "max_images_of: {looks: 20000}\n"
    config = config.replace("name: ring-ns-seed2", "name: ${hydra:runtime.choices.data}-${ganlab.family:a,b}")
    (lost / ".hydra" / "config.yaml").write_text(config)
    (lost / "config.yaml").unlink()
    other = tmp_path / "seed=1" / "config.yaml"
    other.write_text(other.read_text() + "max_images_of: {looks: 20000}\n")
    ((setting,),) = group(find_runs([tmp_path]))
    assert [seed.status for seed in setting.seeds] == ["finished", "failed"]


def test_folders_are_found_once_and_others_are_passed_by(tmp_path):
    single(tmp_path / "sweep" / "seed=1", [scores(8, 0.1)])
    inspected = tmp_path / "inspect"
    (inspected / ".hydra").mkdir(parents=True)
    (inspected / "inspect.json").write_text("{}")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "metrics.csv").write_text("")
    found = find_runs([tmp_path, tmp_path / "sweep", tmp_path / "sweep" / "seed=1"])
    assert [run.folder.name for run in found] == ["seed=1"]


def test_no_run_there(tmp_path):
    with pytest.raises(ValueError, match=r"there is no run in .*give a run's folder"):
        find_runs([tmp_path])
    with pytest.raises(ValueError, match="nowhere is not there"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        find_runs([tmp_path / "file"])


@pytest.mark.parametrize(
    "metric, higher, bad",
    [
        ("modes_2500", True, 0),
        ("high_quality_2500", True, 0),
        ("classes_10k", True, 0),
        ("label_agreement_10k", True, 0),
        ("reverse_kl_2500", False, math.inf),
        ("frechet_classifier_10k", False, math.inf),
        ("class_kl_10k", False, math.inf),
        ("kl_26k", False, math.inf),
        ("success", True, 0),
        ("failure", False, math.inf),
    ],
)
def test_direction_and_worst_value(metric, higher, bad):
    assert higher_is_better(metric) is higher_is_better(f"quality/{metric}") is higher
    assert worst(metric) == bad


def test_the_kl_with_an_off_mode_bin_is_bounded():
    """All samples off the modes: KL = log(1 / 0.0111), and that mass is exp(-9/2), so 4.5."""
    assert worst("kl_with_off_mode_2500", folders.protocol()) == pytest.approx(4.5)


@pytest.mark.parametrize("modes", [8, 25, 89, 90, 100])
def test_no_sampler_has_a_larger_kl_with_an_off_mode_bin_than_a_run_that_failed(modes):
    """A KL is convex, so that its largest value is that of samples which are all in one bin."""
    scores = [float(mode_scores(2500 * counts)["kl_with_off_mode"]) for counts in torch.eye(modes + 1).long()]
    bound = worst("kl_with_off_mode_2500", folders.protocol(modes=modes, off_mode_mass=OFF_MODE_MASS))
    assert bound == pytest.approx(max(scores))


# Settings --------------------------------------------------------------------------------------------------------


def names(*folder):
    return [[setting.name for setting in card] for card in group(find_runs(list(folder)))]


def test_seeds_of_a_config_are_one_setting(tmp_path):
    for seed in (1, 2, 3):
        single(tmp_path / f"a{seed}", [scores(8, 0.1)], seed=seed)
    ((setting,),) = group(find_runs([tmp_path]))
    assert [seed.seed for seed in setting.seeds] == [1, 2, 3]
    assert setting.name == "ns"


@pytest.mark.parametrize("copies", [(1, 2), (1,)], ids=["several", "one"])
def test_a_copy_of_an_ensemble_is_not_the_single_run_of_its_seed(tmp_path, copies):
    """They draw other batches and latents: none replaces the other, and the name says which is which."""
    for n_critic in (1, 5):
        single(tmp_path / f"{n_critic}", [scores(8, 0.1)], n_critic=n_critic)
    ensemble(tmp_path / "copies", {seed: scores(7, 0.3) for seed in copies})
    (found,) = group(find_runs([tmp_path]))
    assert {setting.name: ([seed.seed for seed in setting.seeds], setting.replaced) for setting in found} == {
        "ns n_critic=1": ([1], 0), "ns n_critic=5": ([1], 0), "ns n_critic=1 (ensemble)": ([*copies], 0),
    }  # fmt: skip


def test_names_say_what_differs_and_no_more(tmp_path):
    single(tmp_path / "1", [scores(8, 0.1)], loss="minimax", pack=1)
    single(tmp_path / "2", [scores(8, 0.1)], loss="ns", pack=1, overrides=("optimizer=adam", "gan.pack=1"))
    single(tmp_path / "3", [scores(8, 0.1)], loss="ns", pack=2, overrides=("gan.pack=2",))
    single(tmp_path / "4", [scores(8, 0.1)], loss="ns", pack=2, n_critic=5, overrides=("+gan.n_critic=5", "gan.pack=2"))
    single(tmp_path / "5", [scores(8, 0.1)], loss="my_gan.MyGAN")
    (tmp_path / "5" / "config.yaml").write_text((tmp_path / "5" / "config.yaml").read_text().replace("ganlab.my_gan", "my_gan"))
    (found,) = names(tmp_path)
    assert found == ["minimax", "ns pack=1", "ns pack=2", "ns pack=2 n_critic=5", "MyGAN"]


def test_losses_of_the_same_name_say_where_they_come_from(tmp_path):
    for module in ("first", "second.best"):
        single(tmp_path / module, [scores(8, 0.1)], loss="MyGAN", overrides=(f"gan._target_={module}.MyGAN",))
        config = tmp_path / module / "config.yaml"
        config.write_text(config.read_text().replace("ganlab.MyGAN", f"{module}.MyGAN"))
    assert names(tmp_path / "first") == [["MyGAN"]]
    assert names(tmp_path) == [["MyGAN of first", "MyGAN of second.best"]]


def test_another_class_of_ganlab_than_the_preset_s_is_called_by_its_name(tmp_path):
    single(tmp_path / "1", [scores(8, 0.1)], loss="ns")
    single(tmp_path / "2", [scores(0, 4.5)], loss="ns", overrides=("gan._target_=ganlab.WGAN",))
    config = tmp_path / "2" / "config.yaml"
    config.write_text(config.read_text().replace("NonSaturatingGAN", "WGAN"))
    assert names(tmp_path) == [["ns", "WGAN"]]


def test_what_was_typed_for_one_setting_alone_is_never_left_out(tmp_path):
    """Its loss would tell it apart, and hide that its rate is another one's."""
    optimized(tmp_path / "a", (1e-3, 1e-3), ())
    optimized(tmp_path / "b", (3e-4, 1e-3), ("optimizer.generator.lr=3e-4",))
    config, overrides = tmp_path / "b" / "config.yaml", tmp_path / "b" / ".hydra" / "overrides.yaml"
    config.write_text(config.read_text().replace("NonSaturatingGAN", "RpGAN"))
    overrides.write_text(overrides.read_text().replace("loss=ns", "loss=rpgan"))
    assert names(tmp_path) == [["ns", "rpgan generator.lr=3e-4"]]


def test_names_without_overrides_come_from_the_config(tmp_path):
    for rate in (0.001, 0.0002):
        path = single(tmp_path / f"{rate}", [scores(8, 0.1)], optimizer={"lr": rate})
        shutil.rmtree(path / ".hydra")
    assert names(tmp_path) == [["NonSaturatingGAN lr=0.0002", "NonSaturatingGAN lr=0.001"]]


@pytest.mark.parametrize(
    "where, old, new",
    [
        ("eval_every", "eval_every: 20000", "eval_every: 5000"),
        ("data_dir", "data_dir: data", "data_dir: elsewhere"),
        ("seeds_at_once", "seeds: null", "seeds: null\nseeds_at_once: 7"),
        ("trainer.log_every_n_steps", "accelerator: cpu", "accelerator: gpu\n  log_every_n_steps: 9"),
        ("metrics.batch_size", "samples: 2500", "samples: 2500\n  batch_size: 10"),
        ("monitor", "seeds: null", "seeds: null\nmonitor: {on_verdict: warn}"),
        ("label_prior of an unconditional GAN", "seeds: null", "seeds: null\nlabel_prior: {_target_: Marginal}"),
    ],
)
def test_where_when_and_how_often_it_is_looked_at_is_no_setting(tmp_path, where, old, new):
    single(tmp_path / "a", [scores(8, 0.1)], overrides=("eval_every=1",))
    other = single(tmp_path / "b", [scores(8, 0.1)], seed=2, overrides=("eval_every=2", "data_dir=there")) / "config.yaml"
    assert old in other.read_text()
    other.write_text(other.read_text().replace(old, new))
    ((setting,),) = group(find_runs([tmp_path]))
    assert (setting.name, [seed.seed for seed in setting.seeds]) == ("ns", [1, 2])


R1, R2 = {"_target_": "ganlab.regularizers.R1", "gamma": 1.0}, {"_target_": "ganlab.regularizers.R2", "gamma": 1.0}


def test_regularizers_are_named_first_and_their_numbers_where_they_differ(tmp_path):
    single(tmp_path / "1", [scores(8, 0.1)], regularizers={}, overrides=("networks.width=64",), width=64)
    single(tmp_path / "2", [scores(8, 0.1)], regularizers={"r1": R1}, overrides=("networks.width=128",), width=128)
    single(tmp_path / "3", [scores(8, 0.1)], regularizers={"r1": R1, "r2": R2}, overrides=("regularizer=[r1,r2]",))
    single(
        tmp_path / "4",
        [scores(8, 0.1)],
        regularizers={"r1": R1 | {"gamma": 10.0}, "r2": R2},
        overrides=("regularizer=[r1,r2]",),
    )
    assert names(tmp_path) == [["ns", "ns + r1", "ns + r1 r2 r1.gamma=1.0", "ns + r1 r2 r1.gamma=10.0"]]


@pytest.mark.parametrize("typed", [("regularizer=[r2]",), ("regularizer.r2.gamma=1.0",)])
def test_regularizers_of_an_experiment_are_named_beside_those_that_were_typed(tmp_path, typed):
    single(tmp_path / "1", [scores(8, 0.1)], regularizers={"r2": R2}, overrides=typed)
    single(tmp_path / "2", [scores(8, 0.1)], loss="ls", regularizers={"r1": R1}, overrides=("+experiment=my",))
    single(tmp_path / "3", [scores(8, 0.1)], loss="minimax", regularizers={})
    (found,) = names(tmp_path)
    assert [name.removesuffix(" r2.gamma=1.0") for name in found] == ["ns + r2", "ls + r1", "minimax"]


def optimized(folder, rates, overrides=(), preset=None):
    """A run whose players have these learning rates, as the presets of conf/optimizer leave it in a config."""
    g, d = ({"_target_": "torch.optim.Adam", "lr": rate} for rate in rates)
    single(folder, [scores(8, 0.1)], generator_optimizer=g, discriminator_optimizer=d, overrides=overrides)
    config = folder / "config.yaml"
    config.write_text(config.read_text() + f"optimizer: {json.dumps({'generator': g, 'discriminator': d})}\n")
    if preset:
        (folder / ".hydra" / "hydra.yaml").write_text(
            f"hydra:\n  runtime:\n    choices:\n      loss: ns\n      optimizer: {preset}\n"
        )


def test_a_sweep_over_optimizers_is_named_by_the_preset_or_by_the_rate(tmp_path):
    for rate, preset in ((2e-4, "adam"), (1e-3, "adam_fast")):
        optimized(tmp_path / "typed" / preset, (rate, rate), (f"optimizer={preset}",), preset)
        optimized(tmp_path / "chosen" / preset, (rate, rate), (), preset)  # by an experiment's file
        optimized(tmp_path / "both" / preset, (rate, rate))
        optimized(tmp_path / "one" / preset, (rate, 1e-3), (f"optimizer.generator.lr={rate}",))
    assert names(tmp_path / "typed") == names(tmp_path / "chosen") == [["ns optimizer=adam", "ns optimizer=adam_fast"]]
    assert names(tmp_path / "both") == [["ns lr=0.0002", "ns lr=0.001"]]
    assert names(tmp_path / "one") == [["ns generator.lr=0.0002", "ns generator.lr=0.001"]]


def test_a_preset_that_changed_nothing_names_nothing(tmp_path):
    for i, preset in enumerate(("adam", "adam_fast")):
        optimized(tmp_path / preset, (1e-3, 1e-3), (f"data.num_workers={i}", f"gan.n_critic={i}"), preset)
        config = tmp_path / preset / "config.yaml"
        config.write_text(config.read_text().replace("n_critic: 1", f"n_critic: {i}"))
    assert names(tmp_path) == [["ns n_critic=0", "ns n_critic=1"]]


def began(folder, at):
    os.utime(folder / "config.yaml", (at, at))


STATES = {"finished": {}, "failed": {"error": "nan"}, "unfinished": {"over": False}}


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
def test_a_repeated_seed_counts_once_the_newest_that_is_over(tmp_path, older, newer, counts):
    for at, (name, state) in enumerate({"older": older, "newer": newer}.items(), 1):
        began(single(tmp_path / name, [scores(8, 0.1)], **STATES[state]), at)
    ((setting,),) = group(find_runs([tmp_path]))
    assert [run.folder.name for run in setting.runs] == [counts]
    assert setting.replaced == 1


def test_of_an_ensemble_that_is_not_over_only_the_seeds_without_a_result_count(tmp_path):
    began(ensemble(tmp_path / "before", {seed: scores(8, 0.1) for seed in (1, 2)}), 1)
    began(ensemble(tmp_path / "again", {seed: scores(8, 0.1) for seed in (1, 2, 3)}, over=False), 9)
    ((setting,),) = group(find_runs([tmp_path]))
    assert [(seed.seed, seed.status) for seed in setting.seeds] == [(1, "finished"), (2, "finished"), (3, "unfinished")]
    assert setting.replaced == 0


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"ema": 0.0}, "EMA of the generator"),
        ({"budget": 120_000}, "budget (real images)"),
        ({"card": folders.protocol(fingerprint="cd" * 32)}, "data fingerprint"),
        ({"card": folders.protocol(samples=10_000)}, "N (samples per look)"),
        ({"card": folders.protocol(extractor={"name": "classifier", "sha256": "ef" * 32})}, "extractor hash"),
        ({"card": folders.protocol(resolution=[1, 28, 28])}, "resolution"),
        ({"card": folders.protocol(reference="train split")}, "split"),
        ({"measured": {"precision": "bf16-mixed"}}, "precision"),
    ],
)
def test_another_protocol_is_another_card(tmp_path, changes, field):
    single(tmp_path / "a", [scores(8, 0.1)], loss="ns")
    single(tmp_path / "b", [scores(8, 0.1)], loss="ns", seed=2)
    single(tmp_path / "c", [scores(8, 0.1)], loss="ls", **changes)
    cards = group(find_runs([tmp_path]))
    assert [[setting.name for setting in card] for card in cards] == [["ns"], ["ls"]]
    fields = differing([card[0].card for card in cards])
    assert field in fields
    assert {name for name in fields if not name.startswith("extractor")} <= {field}


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"card": folders.protocol(fingerprint="cd" * 32)}, "data fingerprint"),
        ({"card": folders.protocol(extractor={"name": "classifier", "sha256": "ef" * 32})}, "extractor hash"),
        ({"measured": {"precision": "bf16-mixed"}}, "precision"),
    ],
)
def test_seeds_of_one_config_under_two_protocols_are_on_two_cards(tmp_path, changes, field):
    for seed in (1, 2):
        single(tmp_path / f"a{seed}", [scores(8, 0.1)], seed=seed)
    single(tmp_path / "b", [scores(8, 0.1)], seed=3, **changes)
    cards = group(find_runs([tmp_path]))
    assert [[(s.name, [seed.seed for seed in s.seeds]) for s in card] for card in cards] == [[("ns", [1, 2])], [("ns", [3])]]
    assert field in differing([card[0].card for card in cards])


def test_a_run_that_measured_nothing_stays_with_those_that_began_when_it_did(tmp_path):
    """Three seeds, and again on other data: one failed then and one was killed, which says nothing about the old results."""
    again = folders.protocol(fingerprint="cd" * 32)
    for at, (seed, state) in enumerate(((1, "finished"), (2, "failed"), (3, "unfinished"), (4, "finished"))):
        began(single(tmp_path / f"before{seed}", [scores(8, 0.1)], seed=seed), 100 + at)
        began(single(tmp_path / f"then{seed}", [scores(8, 0.1)], seed=seed, card=again, **STATES[state]), 1000 + at)
    cards = group(find_runs([tmp_path]))
    states = {card[0].protocol["fingerprint"][:2]: [seed.status for seed in card[0].seeds] for card in cards}
    assert states == {"ab": ["finished"] * 4, "cd": ["finished", "failed", "unfinished", "finished"]}


def test_other_seeds_devices_and_batch_sizes_share_a_card(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1)], seed=1)
    single(tmp_path / "b", [scores(8, 0.1)], seed=2, loss="ls", measured={"device": "another", "versions": {"torch": "3"}})
    batch = tmp_path / "c" / "config.yaml"
    single(tmp_path / "c", [scores(8, 0.1)], seed=2, loss="ls")
    batch.write_text(batch.read_text().replace("batch_size: 128", "batch_size: 256"))
    (card,) = group(find_runs([tmp_path]))
    assert sorted(setting.name for setting in card) == ["ls batch_size=128", "ls batch_size=256", "ns"]


def test_a_setting_that_only_crashed_stays_in_the_ranking_of_its_siblings(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1)])
    single(tmp_path / "b", None, loss="wgan", error="the loss is nan")
    (card,) = group(find_runs([tmp_path]))
    assert sorted(setting.name for setting in card) == ["ns", "wgan"]
