"""Reading run directories, whatever is missing or damaged in them."""

import json
import math

import pytest
import torch
from run_factory import make_config, make_protocol, scores, write_config, write_ensemble, write_run

from ganlab.metrics.mode_coverage import OFF_MODE_MASS, mode_scores
from ganlab.report.groups import group_runs
from ganlab.report.runs import find_runs, higher_is_better, worst_value


def test_read_single_run(tmp_path):
    (run,) = find_runs([write_run(tmp_path / "a", [scores(3, 0.9), scores(8, 0.02)], seed=7)])
    (seed,) = run.seeds
    assert (run.status, seed.seed, seed.status, run.members, run.images) == ("finished", 7, "finished", 1, 60_032)
    assert seed.images == [20_000, 40_000]
    assert seed.history["modes_2500"] == [3, 8]
    assert seed.final["kl_with_off_mode_2500"] == 0.02
    assert not any(name.endswith("_real") for name in seed.history)


def test_seconds_of_an_evaluation_are_interpolated(tmp_path):
    """Rows at 20,128 images (2 s) and 40,128 images (4 s): the evaluation at 40,000 is 128 of 20,000 images before the 2nd."""
    (run,) = find_runs([write_run(tmp_path, [scores(3, 0.9), scores(8, 0.02)])])
    assert run.seeds[0].seconds[1] == pytest.approx(4 - 2 * 128 / 20_000)


def test_seconds_after_the_last_row_are_extrapolated(tmp_path):
    """The rows end at 20,128 images and 2 s; at the same speed 40,000 images take 2 * 40,000 / 20,128 s."""
    write_run(tmp_path, [scores(3, 0.9), scores(8, 0.02)])
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    (tmp_path / "metrics.csv").write_text("\n".join(rows[:-1]) + "\n")
    (run,) = find_runs([tmp_path])
    assert run.seeds[0].seconds[1] == pytest.approx(2 * 40_000 / 20_128)


def test_null_in_summary_is_infinite(tmp_path):
    (run,) = find_runs([write_run(tmp_path, [scores(0, 4.5)])])
    assert json.loads((tmp_path / "summary.json").read_text())["quality"]["quality/reverse_kl_2500"] is None
    assert run.seeds[0].score("reverse_kl_2500") == math.inf
    assert run.seeds[0].final["modes_2500"] == 0


def test_read_ensemble(tmp_path):
    (run,) = find_runs([write_ensemble(tmp_path, {1: scores(8, 0.1), 2: None, 3: scores(5, 0.8)})])
    assert [(seed.seed, seed.status) for seed in run.seeds] == [(1, "finished"), (2, "failed"), (3, "finished")]
    assert run.members == 3
    assert run.seeds[2].final["modes_2500"] == 5
    assert run.seeds[1].final == {}
    assert math.isnan(run.seeds[1].history["modes_2500"][0])
    assert run.seeds[0].seconds == [20, 60.032]


def test_nan_is_the_worst_value(tmp_path):
    nan = scores(8, math.nan)
    write_run(tmp_path / "a", [nan])
    write_ensemble(tmp_path / "b", {1: nan, 2: nan})
    seeds = [seed for run in find_runs([tmp_path]) for seed in run.seeds]
    assert [seed.score("reverse_kl_2500") for seed in seeds] == [math.inf] * 3


def test_crashed_ensemble_fails_all_its_seeds(tmp_path):
    write_ensemble(tmp_path, {1: scores(8, 0.1), 2: scores(8, 0.1)}, finished=False)
    (tmp_path / "summary.json").write_text(json.dumps({"name": "x", "status": "failed", "error": "out of memory"}))
    (run,) = find_runs([tmp_path])
    assert [seed.status for seed in run.seeds] == ["failed", "failed"]
    assert all(seed.final == {} for seed in run.seeds)


def test_run_without_summary_is_unfinished(tmp_path):
    (run,) = find_runs([write_run(tmp_path, [scores(3, 0.9)], finished=False)])
    assert (run.status, run.seeds[0].status, run.seeds[0].final) == ("unfinished", "unfinished", {})
    assert run.seeds[0].history["modes_2500"] == [3]


def test_damaged_files(tmp_path):
    write_run(tmp_path / "half_a_line", [scores(3, 0.9), scores(8, 0.1)], finished=False)
    table = tmp_path / "half_a_line" / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-9] + b"\0\0\xff,0.5,7,1")
    write_run(tmp_path / "no_json", [scores(3, 0.9)])
    (tmp_path / "no_json" / "summary.json").write_text('{"status": "fin')
    write_run(tmp_path / "no_yaml", [scores(3, 0.9)])
    (tmp_path / "no_yaml" / "config.yaml").write_text("{")
    write_ensemble(tmp_path / "seeds", {1: scores(8, 0.1), 2: scores(8, 0.1)})
    table = tmp_path / "seeds" / "seeds.csv"
    table.write_text(table.read_text() + "40000,1.0,\n")
    write_config(tmp_path / "empty", make_config(seeds=2))
    (tmp_path / "empty" / "seeds.csv").write_text("")
    runs = {run.name: run for run in find_runs([tmp_path])}
    assert runs["half_a_line"].seeds[0].history["modes_2500"] == [3, 8]
    assert runs["no_json"].status == "failed" and "cannot be read" in runs["no_json"].summary["error"]
    assert runs["no_yaml"].config == {} and runs["no_yaml"].seeds[0].status == "finished"
    assert len(runs["seeds"].seeds) == 2
    assert [seed.status for seed in runs["empty"].seeds] == ["unfinished"] * 2
    assert group_runs(list(runs.values()))


def test_runs_are_found_once_and_inspections_left_out(tmp_path):
    write_run(tmp_path / "sweep" / "seed=1", [scores(8, 0.1)])
    inspected = tmp_path / "inspect"
    write_config(inspected, make_config())
    (inspected / "inspect.json").write_text("{}")
    (tmp_path / "refused").mkdir()  # a run that never trained has no config.yaml
    (tmp_path / "refused" / "summary.json").write_text('{"status": "refused", "error": "gan.n_critic must be"}')
    runs = find_runs([tmp_path, tmp_path / "sweep", tmp_path / "sweep" / "seed=1"])
    assert [run.name for run in runs] == ["seed=1"]


def test_paths_without_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no run in .*give the directory of a run"):
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
    assert worst_value(metric) == bad


def test_kl_with_off_mode_is_bounded():
    """All samples off the modes: KL = log(1 / 0.0111), and that mass is exp(-9/2), so 4.5."""
    assert worst_value("kl_with_off_mode_2500", make_protocol()) == pytest.approx(4.5)


@pytest.mark.parametrize("modes", [8, 25, 89, 90, 100])
def test_no_sampler_has_a_larger_kl_with_off_mode_than_a_failed_run(modes):
    """A KL is convex, so that its largest value is that of samples which are all in one bin."""
    scores = [float(mode_scores(2500 * counts)["kl_with_off_mode"]) for counts in torch.eye(modes + 1).long()]
    bound = worst_value("kl_with_off_mode_2500", make_protocol(modes=modes, off_mode_mass=OFF_MODE_MASS))
    assert bound == pytest.approx(max(scores))
