"""Rankings and tables: their numbers, that failures count, and what they say of few seeds."""

import json
import math
import os
from pathlib import Path
from statistics import stdev

import pytest
import yaml
from run_factory import scores, write_ensemble, write_run
from scipy import stats

from ganlab.report import Ranking, build_report
from ganlab.report.formatting import format_duration, format_number, format_seeds
from ganlab.report.groups import group_runs
from ganlab.report.published import is_published_setting, published_table
from ganlab.report.runs import find_runs
from ganlab.report.tables import cost, leaderboard, paired_differences, protocol_table, time_to_all_modes, unfinished_runs
from ganlab.utils.statistics import detectable_difference


@pytest.fixture
def sweep(tmp_path):
    """ns: 8, 8, 4 modes. minimax: 8, 0 modes and a seed that failed. wgan: every seed failed. ls: still training."""
    folder = tmp_path / "sweep"
    for seed, modes in enumerate((8, 8, 4), 1):
        evaluations = [scores(3, 1.0), scores(modes, 0.1 * seed)]
        write_run(folder / f"loss=ns,seed={seed}", evaluations, seed=seed, pictures=True)
    for seed, modes in enumerate((8, 0), 1):
        evaluations = [scores(8, 0.5), scores(modes, 0.2 if modes else 4.5)]
        write_run(folder / f"loss=minimax,seed={seed}", evaluations, loss="minimax", seed=seed, pictures=True)
    write_run(folder / "loss=minimax,seed=3", [scores(1, 2.0)], loss="minimax", seed=3, error="D's loss is nan at step 7")
    for seed in (1, 2):
        write_run(folder / f"loss=wgan,seed={seed}", None, loss="wgan", seed=seed, error="<b>diverged</b> | at once")
    write_run(folder / "loss=ls,seed=1", [scores(5, 0.7)], loss="ls", finished=False)
    return folder


def ranking(folder, metric=None):
    (groups,) = group_runs(find_runs([folder]))
    return Ranking(groups, metric)


def row(table, name):
    return next(dict(zip(table.header, cells, strict=True)) for cells in table.rows if name in cells)


def test_failed_seeds_score_the_worst_value(sweep):
    ranked = ranking(sweep)
    by_name = {group.name: group for group in ranked.groups}
    assert ranked.values(by_name["minimax"], "modes_2500") == {1: 8, 2: 0, 3: 0}
    assert ranked.values(by_name["minimax"], "failure") == {1: 0, 2: 1, 3: 1}
    assert ranked.values(by_name["minimax"], "success") == {1: 1, 2: 0, 3: 0}
    assert ranked.values(by_name["minimax"], "kl_with_off_mode_2500") == pytest.approx({1: 0.2, 2: 4.5, 3: 4.5})
    assert ranked.values(by_name["wgan"], "reverse_kl_2500") == {1: math.inf, 2: math.inf}
    assert ranked.values(by_name["ns"], "failure") == {1: 0, 2: 0, 3: 0}


def test_leaderboard(sweep):
    board = leaderboard(ranking(sweep))
    assert [cells[:2] for cells in board.rows] == [
        ["1", "ns"], ["2", "minimax"], ["3", "wgan"], ["–", "ls"], ["", "a perfect sampler"],
    ]  # fmt: skip
    interval = stats.binomtest(2, 3).proportion_ci(0.95, "wilson")
    ns = row(board, "ns")
    assert ns["success (all 8)"] == ("66.7 %", f"{100 * interval.low:.3g} … {100 * interval.high:.3g} %")
    assert ns["mean kl_with_off_mode_2500 ▾"] == ("0.2", "-0.04841 … 0.4484")  # 0.2 ± 4.303 * 0.1 / sqrt(3)
    assert ns["mean modes_2500"][0] == "6.667"
    minimax = row(board, "minimax")
    assert minimax["seeds"] == ("3", "1 failed")
    assert minimax["failure"][0] == "66.7 %"
    assert minimax["mean reverse_kl_2500"] == ("∞", "∞ in 2 of 3; median ∞")
    assert row(board, "wgan")["failure"][0] == "100 %"
    assert row(board, "ls")["mean modes_2500"] == ("5", "at 20,000 images")
    assert row(board, "ls")["failure"] == ""
    notes = " ".join(board.notes)
    assert "lower is better" in notes and "not over" in notes and "Student" in notes


@pytest.mark.parametrize("metric, best", [("success", "ns"), ("failure", "ns"), ("modes", "ns"), ("quality/modes_2500", "ns")])
def test_sorted_by_the_given_metric(sweep, metric, best):
    ranked = ranking(sweep, metric)
    assert ranked.metric == {"modes": "modes_2500", "quality/modes_2500": "modes_2500"}.get(metric, metric)
    assert ranked.ranked[0].name == best
    assert ranked.ranked[-1].name == "wgan"


def test_order_depends_on_the_metric(tmp_path):
    """One setting has more modes, the other the lower KL."""
    write_run(tmp_path / "a", [scores(8, 0.9)], loss="ns")
    write_run(tmp_path / "b", [scores(7, 0.3)], loss="ls")
    assert [group.name for group in ranking(tmp_path, "modes").ranked] == ["ns", "ls"]
    assert [group.name for group in ranking(tmp_path).ranked] == ["ls", "ns"]


def test_infinite_mean_ranks_below_finite_ones(tmp_path):
    for seed, modes in enumerate((8, 8, 8, 8, 0), 1):
        write_run(tmp_path / f"a{seed}", [scores(modes, 0.001)], loss="ns", seed=seed)
        write_run(tmp_path / f"b{seed}", [scores(8, 3.0)], loss="ls", seed=seed)
    assert [group.name for group in ranking(tmp_path, "reverse_kl").ranked] == ["ls", "ns"]
    write_run(tmp_path / "c", [scores(0, 4.5)], loss="minimax")  # without one finite value
    assert len(build_report([tmp_path], "reverse_kl").sections[0].seeds) == 2
    cell = row(leaderboard(ranking(tmp_path, "reverse_kl")), "ns")["mean reverse_kl_2500 ▾"]
    assert cell == ("∞", "∞ in 1 of 5; median 0.001")


def test_metric_that_a_group_lacks_is_missing_and_not_zero(tmp_path):
    write_run(tmp_path / "a", [scores(8, 0.1) | {"label_agreement_2500": 0.7}], loss="ns")
    write_run(tmp_path / "b", [scores(8, 0.2)], loss="ls")
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ls")["label_agreement_2500"] == "–"
    assert [group.name for group in ranking(tmp_path, "label_agreement").ranked] == ["ns", "ls"]
    write_run(tmp_path / "c", [scores(8, 0.1) | {"label_agreement_2500": 0.9}], loss="ns", seed=2)
    assert len(build_report([tmp_path], "label_agreement").sections[0].seeds) == 2


def test_paired_differences(sweep):
    table = paired_differences(ranking(sweep))
    assert table.header[0] == "ns against"
    minimax = row(table, "minimax")
    assert minimax["seeds in common"] == "3"
    assert minimax["mean difference of kl_with_off_mode_2500"][0] == format_number((-0.1 - 4.3 - 4.2) / 3, sign=True)
    assert minimax["better in"] == ("3 of 3", "")
    assert minimax["mean difference of success"][0] == "+33.3 points"
    assert row(table, "wgan")["seeds in common"] == "2"


def test_time_to_all_modes(sweep):
    table = time_to_all_modes(ranking(sweep))
    assert row(table, "ns")["seeds that ever had all modes"][0] == "66.7 % (2 of 3)"
    assert row(table, "ns")["images seen (median)"] == ("40,000", "40,000 … never")
    assert row(table, "minimax")["images seen (median)"] == ("20,000", "20,000 … never")  # both had 8 at the first look
    assert row(table, "wgan")["wall time (median)"] == "never"


def test_unfinished_runs_are_listed_with_their_reason(sweep):
    table = unfinished_runs(ranking(sweep))
    assert row(table, "minimax")["why"] == "D's loss is nan at step 7"
    assert row(table, "minimax")["images seen"] == "20,128 of 60,000"
    assert row(table, "wgan")["which seeds"] == "1–2"
    assert row(table, "ls")["status"] == "unfinished"


def test_conclusion_follows_from_the_corrected_p_value(tmp_path):
    """Five equal differences have p = 2/2^5 = 0.0625 (sign test), six 0.03125; with a third setting, three pairs are tested."""
    for seed in range(1, 7):
        write_run(tmp_path / f"a{seed}", [scores(8, 0.1)], loss="ns", seed=seed)
        write_run(tmp_path / f"b{seed}", [scores(8, 0.5)], loss="ls", seed=seed)
        if seed == 1:
            assert "One seed in common: too few to tell it from the next, ls" in ranking(tmp_path).conclusion()
        if seed == 5:
            assert "The 5 seeds in common do not tell it from the next, ls (p = 0.062)" in ranking(tmp_path).conclusion()
    assert "The 6 seeds in common tell it from the next, ls (p = 0.031)" in ranking(tmp_path).conclusion()
    for seed in range(1, 7):
        write_run(tmp_path / f"c{seed}", [scores(8, 0.6)], loss="minimax", seed=seed)
    ranked = ranking(tmp_path)
    assert "do not tell it from the next, ls (p = 0.094)" in ranked.conclusion()
    assert row(paired_differences(ranked), "minimax")["p (Holm)"] == "0.094"


def test_detectable_difference_counts_every_pair(tmp_path):
    finals = {"ns": (0.1, 0.3, 0.2, 0.4), "ls": (0.5, 0.5, 0.7, 0.9), "minimax": (1.0, 0.9, 0.9, 1.2)}
    for loss, values in finals.items():
        for seed, kl in enumerate(values, 1):
            write_run(tmp_path / f"{loss}{seed}", [scores(8, kl)], loss=loss, seed=seed)
    cells = row(paired_differences(ranking(tmp_path)), "ls")
    spread = stdev(b - a for a, b in zip(finals["ns"], finals["ls"]))
    assert cells["detectable"] == format_number(detectable_difference(spread, 4, 3))


def test_ensembles_beside_single_runs(tmp_path):
    finals = {seed: None if seed == 4 else scores(8, 0.1) for seed in range(1, 11)}
    write_ensemble(tmp_path / "ens", finals, loss="minimax")
    write_run(tmp_path / "one", [scores(8, 0.1)], loss="ns", seed=3)
    ranked = ranking(tmp_path)
    assert row(leaderboard(ranked), "minimax (ensemble)")["seeds"] == ("10", "1 failed")
    assert row(leaderboard(ranked), "minimax (ensemble)")["success (all 8)"][0] == "90 %"
    assert row(cost(ranked), "minimax (ensemble)")["seeds at once"] == "10"
    assert row(cost(ranked), "minimax (ensemble)")["images/s, all seeds (median)"] == "1,000"
    assert row(cost(ranked), "minimax (ensemble)")["peak memory (largest)"] == "3 MiB"
    assert row(time_to_all_modes(ranked), "minimax (ensemble)")["wall time (median)"] == "20 s"
    assert (
        row(paired_differences(ranked), "minimax (ensemble)")["seeds in common"] == "0"
    )  # a member and a single run are no pair
    assert ranked.conclusion().endswith("It has no seed to compare with the next, minimax (ensemble).")
    protocol = dict(protocol_table(ranked).rows)
    assert (protocol["seeds of minimax (ensemble)"], protocol["seeds of ns"]) == ("1–10", "3")


def add_published(folder, figures):
    for config in folder.glob("*/config.yaml"):
        config.write_text(config.read_text() + f"published: {json.dumps(figures)}\n")


def test_published_figures_stand_beside_results(tmp_path):
    """Published per loss or per setting; 0.47 of 1 is inside Wilson's interval of 2 in 4, and 0.99 is not."""
    figures = {"source": "A paper, 200 seeds", "ns": {"success": 0.47, "modes": 7.0}, "ls pack=2": {"success": 0.99}}
    for seed, modes in enumerate((8, 8, 0, 0), 1):
        write_run(tmp_path / f"ns{seed}", [scores(modes, 0.1)], seed=seed)
        for pack in (1, 2):
            write_run(tmp_path / f"ls{pack}{seed}", [scores(modes, 0.1)], loss="ls", seed=seed, pack=pack)
    add_published(tmp_path, figures | {"minimax": {"success": 0.47}})
    table = published_table(ranking(tmp_path))
    assert table.header == ["setting", "metric", "seeds", "here: rate or mean (95 %)", "published", "inside the interval"]
    rows = {(cells[0], cells[1]): cells[2:] for cells in table.rows}
    assert set(rows) == {("ns", "success"), ("ns", "modes_2500"), ("ls pack=2", "success")}
    assert rows["ns", "success"] == ["4", ("50 %", "15 … 85 %"), "47 %", "yes"]
    assert rows["ns", "modes_2500"][2:] == ["7", "yes"]
    assert rows["ls pack=2", "success"][3] == "no"
    assert "A paper, 200 seeds" in table.notes[0]
    assert "The source also has minimax, of which no result is here." == table.notes[1]


@pytest.mark.parametrize(
    "overrides, name, stands",
    [
        (("max_images=9", "trainer=cpu", "metrics.samples=2500", "logger=csv"), "ns", True),  # its length and its evaluations
        (("regularizer=[r1]",), "ns", False),  # not the paper's setting
        (("gan.pack=2",), "ns", False),
        (("gan.pack=2",), "ns pack=2", True),
        (("gan.pack=2", "optimizer=adam"), "ns pack=2", False),
        (("gan.pack=2",), "ns pack=2.0", True),  # a number is a number, however it is written
        (("gan.pack=2",), "ns pack=4", False),
        (("gan.pack=2",), "ls pack=2", False),
        (("data=ring",), "ns pack=2 data=Ring", True),
        (("data=grid",), "ns data=Grid", False),  # typed, but this run's data is the ring
    ],
)
def test_published_figure_stands_beside_the_paper_s_setting_only(tmp_path, overrides, name, stands):
    write_run(tmp_path, [scores(8, 0.1)], overrides=overrides, pack=2)
    ((group,),) = group_runs(find_runs([tmp_path]))
    assert is_published_setting(group, name) is stands


@pytest.mark.parametrize("experiment", ["ring_alpha", "ring_pac", "grid_pac", "stacked"])
def test_published_figures_of_the_experiments_are_measured_metrics(experiment):
    from ganlab.config.paths import conf_folder

    figures = yaml.safe_load((Path(conf_folder()) / "experiment" / f"{experiment}.yaml").read_text())["published"]
    assert figures.pop("source")
    measured = {"modes", "high_quality", "reverse_kl", "success", "failure", "kl_uniform"}
    for name, row in figures.items():
        assert (Path(conf_folder()) / "loss" / f"{name.split()[0]}.yaml").exists()
        assert set(row) <= measured
        assert all(0 <= row.get(share, 0) <= 1 for share in ("high_quality", "success", "failure"))


def test_packs_with_equal_updates_share_a_ranking(tmp_path):
    """PacGAN's table: 100 packs a batch and 10,000 updates of D, so 1, 2 and 4 million points."""
    for pack in (1, 2, 4):
        folder = write_run(tmp_path / f"{pack}", [scores(8, 0.1 * pack)], pack=pack, budget=1_000_000 * pack)
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("batch_size: 128", f"batch_size: {100 * pack}"))
    ranked = ranking(tmp_path)
    assert [group.name for group in ranked.ranked] == ["ns pack=1", "ns pack=2", "ns pack=4"]
    assert ranked.groups[0].protocol["budget (real images)"].startswith("10,000 updates of D (pack=1: 1,000,000; pack=2: 2,0")
    assert build_report([tmp_path]).sections[0].ranking.title == "Ring, N = 2,500, 10,000 updates of D"


@pytest.mark.parametrize("packs, batches, budgets", [
    ((1, 2), (100, 100), (1_000_000, 2_000_000)),  # twice the updates
    ((1, 1), (100, 200), (1_000_000, 2_000_000)),  # equal updates, but no pack that would explain it
])  # fmt: skip
def test_other_budgets_are_other_rankings(tmp_path, packs, batches, budgets):
    for i, (pack, batch, budget) in enumerate(zip(packs, batches, budgets, strict=True)):
        folder = write_run(tmp_path / f"{i}", [scores(8, 0.1)], pack=pack, budget=budget)
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("batch_size: 128", f"batch_size: {batch}"))
    assert len(group_runs(find_runs([tmp_path]))) == 2


def test_verdict_column(tmp_path):
    write_run(tmp_path / "a", [scores(8, 0.1)], measured={"verdicts": {"current": ["MODE_COLLAPSE"]}})
    write_run(tmp_path / "b", [scores(8, 0.1)], seed=2, measured={"verdicts": {"current": ["MODE_COLLAPSE", "OSCILLATION"]}})
    write_run(tmp_path / "c", [scores(8, 0.1)], loss="ls")
    several = write_ensemble(tmp_path / "d", {seed: scores(8, 0.1) for seed in (1, 2, 3)}, loss="minimax") / "summary.json"
    said = {"current": ["MODE_COLLAPSE", "HEALTHY"], "seeds": {"MODE_COLLAPSE": [1, 3], "HEALTHY": [2]}, "history": []}
    several.write_text(json.dumps(json.loads(several.read_text()) | {"verdicts": said}))
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ns")["verdict at the end"] == "MODE_COLLAPSE 2 of 2, OSCILLATION 1 of 2"
    assert row(board, "minimax (ensemble)")["verdict at the end"] == "MODE_COLLAPSE 2 of 3, HEALTHY 1 of 3"
    assert row(board, "ls")["verdict at the end"] == "–"
    assert row(board, "a perfect sampler")["verdict at the end"] == ""


def test_unfinished_repetition_replaces_no_result(tmp_path):
    write_run(tmp_path / "ns", [scores(8, 0.1)])
    write_run(tmp_path / "ls", [scores(8, 0.2)], loss="ls")
    again = write_run(tmp_path / "ns_again", [scores(1, 3.0)], finished=False)
    os.utime(again / "config.yaml", (2**32, 2**32))
    report = build_report([tmp_path])
    board = report.sections[0].tables[0]
    assert [cells[:3] for cells in board.rows[:2]] == [["1", "ns", "1"], ["2", "ls", "1"]]
    assert any(note.startswith("Left out: 1 run of a config and seed that were run more than once.") for note in board.notes)
    assert report.warnings == [] and "Runs that did not finish" not in [table.title for table in report.sections[0].tables]


def test_seeds_that_ended_early_are_marked(tmp_path):
    """Budgets are 60,000 images; one is used up at exactly that or at a whole batch above."""
    write_run(tmp_path / "ns1", [scores(8, 0.1)], seed=1)
    write_run(tmp_path / "ns2", [scores(2, 0.4)], seed=2, images_seen=640, measured={"ended_by": "MODE_COLLAPSE"})
    write_run(tmp_path / "ns3", [scores(4, 0.4)], seed=3, images_seen=59_904)  # a batch short of the budget
    write_run(tmp_path / "ls1", [scores(8, 0.4)], loss="ls", seed=1, images_seen=60_000)
    write_run(tmp_path / "ls2", None, loss="ls", seed=2, error="nan")
    write_run(tmp_path / "ls3", [scores(8, 0.4)], loss="ls", seed=3, finished=False)
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ns")["seeds"] == ("3", "2 ended early at 640 … 59,904 images")
    assert row(board, "ns")["mean kl_with_off_mode_2500 ▾"][0] == "0.3"
    assert row(board, "ls")["seeds"] == ("3", "1 failed, 1 unfinished")
    (note,) = (note for note in board.notes if "ended early" in note)
    assert note.startswith("2 seeds ended early, short of max_images (1 by MODE_COLLAPSE): ")


def test_ensemble_that_ended_early_is_marked(tmp_path):
    write_ensemble(tmp_path / "early", {1: scores(8, 0.1), 2: None, 3: scores(8, 0.1)}, images_seen=20_480)
    write_ensemble(tmp_path / "full", {1: scores(8, 0.1), 2: scores(8, 0.2)}, loss="minimax")
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ns")["seeds"] == ("3", "1 failed, 2 ended early at 20,480 images")
    assert row(board, "minimax")["seeds"] == "2"
    assert any(note.startswith("2 seeds ended early, short of max_images: ") for note in board.notes)


def test_formatting():
    assert format_seeds([3, 1, 2, 7, 9, 10]) == "1–3, 7, 9–10"
    assert [format_number(x) for x in (0.012345, 17.186, 123456.0, math.inf, 0.0)] == ["0.01235", "17.19", "123,456", "∞", "0"]
    assert [format_duration(x) for x in (4.567, 200, 7200)] == ["4.57 s", "3.33 min", "2 h"]
