"""The page: its numbers, that failures stay in, that it stands alone, and what it says of protocols."""

import base64
import importlib.util
import json
import math
import os
import re
import time
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from PIL import Image
from scipy import stats

from ganlab.report import build, main
from ganlab.report.details import card, costs, coverage, troubles
from ganlab.report.grouping import group
from ganlab.report.pictures import FRAMES, band, over_density, training_gif
from ganlab.report.ranking import Ranking
from ganlab.report.runs import find_runs
from ganlab.report.tables import differences, is_claimed, leaderboard, published
from ganlab.report.texts import duration, number, ranges

spec = importlib.util.spec_from_file_location("folders", Path(__file__).parent / "folders.py")
folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folders)
single, ensemble, scores = folders.single, folders.ensemble, folders.scores


@pytest.fixture
def sweep(tmp_path):
    """ns: 8, 8, 4 modes. minimax: 8, 0 modes and a seed that failed. wgan: every seed failed. ls: still under way."""
    folder = tmp_path / "sweep"
    for seed, modes in enumerate((8, 8, 4), 1):
        looks = [scores(3, 1.0), scores(modes, 0.1 * seed)]
        single(folder / f"loss=ns,seed={seed}", looks, seed=seed, pictures=True)
    for seed, modes in enumerate((8, 0), 1):
        looks = [scores(8, 0.5), scores(modes, 0.2 if modes else 4.5)]
        single(folder / f"loss=minimax,seed={seed}", looks, loss="minimax", seed=seed, pictures=True)
    single(folder / "loss=minimax,seed=3", [scores(1, 2.0)], loss="minimax", seed=3, error="D's loss is nan at step 7")
    for seed in (1, 2):
        single(folder / f"loss=wgan,seed={seed}", None, loss="wgan", seed=seed, error="<b>diverged</b> | at once")
    single(folder / "loss=ls,seed=1", [scores(5, 0.7)], loss="ls", over=False)
    return folder


def ranking(folder, metric=None):
    (card,) = group(find_runs([folder]))
    return Ranking(card, metric)


def row(table, name):
    return next(dict(zip(table.header, cells, strict=True)) for cells in table.rows if name in cells)


def test_failures_count_and_stay(sweep):
    found = ranking(sweep)
    by_name = {setting.name: setting for setting in found.settings}
    assert found.values(by_name["minimax"], "modes_2500") == {1: 8, 2: 0, 3: 0}
    assert found.values(by_name["minimax"], "failure") == {1: 0, 2: 1, 3: 1}
    assert found.values(by_name["minimax"], "success") == {1: 1, 2: 0, 3: 0}
    assert found.values(by_name["minimax"], "kl_with_off_mode_2500") == pytest.approx({1: 0.2, 2: 4.5, 3: 4.5})
    assert found.values(by_name["wgan"], "reverse_kl_2500") == {1: math.inf, 2: math.inf}
    assert found.values(by_name["ns"], "failure") == {1: 0, 2: 0, 3: 0}


def test_the_leaderboard(sweep):
    board = leaderboard(ranking(sweep))
    assert [cells[:2] for cells in board.rows] == [
        ["1", "ns"], ["2", "minimax"], ["3", "wgan"], ["–", "ls"], ["", "a perfect sampler"],
    ]  # fmt: skip
    interval = stats.binomtest(2, 3).proportion_ci(0.95, "wilson")
    ns = row(board, "ns")
    assert ns["success (all 8)"] == ("66.7 %", f"{100 * interval.low:.3g} … {100 * interval.high:.3g} %")
    assert ns["mean kl_with_off_mode_2500 ▾"] == ("0.2", "0.1 … 0.3")
    assert ns["mean modes_2500"][0] == "6.667"
    minimax = row(board, "minimax")
    assert minimax["seeds"] == ("3", "1 failed")
    assert minimax["failure"][0] == "66.7 %"
    assert minimax["mean reverse_kl_2500"] == ("∞", "∞ in 2 of 3; median ∞")
    assert row(board, "wgan")["failure"][0] == "100 %"
    assert row(board, "ls")["mean modes_2500"] == ("5", "at 20,000 images")
    assert row(board, "ls")["failure"] == ""
    notes = " ".join(board.notes)
    assert "lower is better" in notes and "not over" in notes and "too narrow" in notes


@pytest.mark.parametrize("metric, best", [("success", "ns"), ("failure", "ns"), ("modes", "ns"), ("quality/modes_2500", "ns")])
def test_sorted_by_the_metric_asked_for(sweep, metric, best):
    found = ranking(sweep, metric)
    assert found.metric == {"modes": "modes_2500", "quality/modes_2500": "modes_2500"}.get(metric, metric)
    assert found.ranked[0].name == best
    assert found.ranked[-1].name == "wgan"


def test_sorting_turns_with_the_metric(tmp_path):
    """One setting has more modes, the other the lower KL."""
    single(tmp_path / "a", [scores(8, 0.9)], loss="ns")
    single(tmp_path / "b", [scores(7, 0.3)], loss="ls")
    assert [s.name for s in ranking(tmp_path, "modes").ranked] == ["ns", "ls"]
    assert [s.name for s in ranking(tmp_path).ranked] == ["ls", "ns"]


def test_an_infinite_mean_ranks_below_every_finite_one(tmp_path):
    for seed, modes in enumerate((8, 8, 8, 8, 0), 1):
        single(tmp_path / f"a{seed}", [scores(modes, 0.001)], loss="ns", seed=seed)
        single(tmp_path / f"b{seed}", [scores(8, 3.0)], loss="ls", seed=seed)
    assert [s.name for s in ranking(tmp_path, "reverse_kl").ranked] == ["ls", "ns"]
    single(tmp_path / "c", [scores(0, 4.5)], loss="minimax")  # without one finite value
    assert len(build([tmp_path], "reverse_kl").sections[0].seeds) == 2
    cell = row(leaderboard(ranking(tmp_path, "reverse_kl")), "ns")["mean reverse_kl_2500 ▾"]
    assert cell == ("∞", "∞ in 1 of 5; median 0.001")


def test_a_metric_that_a_setting_does_not_have_is_missing_and_not_zero(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1) | {"label_agreement_2500": 0.7}], loss="ns")
    single(tmp_path / "b", [scores(8, 0.2)], loss="ls")
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ls")["label_agreement_2500"] == "–"
    assert [s.name for s in ranking(tmp_path, "label_agreement").ranked] == ["ns", "ls"]
    single(tmp_path / "c", [scores(8, 0.1) | {"label_agreement_2500": 0.9}], loss="ns", seed=2)
    assert len(build([tmp_path], "label_agreement").sections[0].seeds) == 2


def test_paired_differences(sweep):
    table = differences(ranking(sweep))
    assert table.header[0] == "ns against"
    minimax = row(table, "minimax")
    assert minimax["seeds in common"] == "3"
    assert minimax["mean difference of kl_with_off_mode_2500"][0] == number((-0.1 - 4.3 - 4.2) / 3, sign=True)
    assert minimax["better in"] == ("3 of 3", "")
    assert minimax["mean difference of success"][0] == "+33.3 points"
    assert row(table, "wgan")["seeds in common"] == "2"


def test_time_to_all_modes(sweep):
    table = coverage(ranking(sweep))
    assert row(table, "ns")["seeds that ever had all modes"][0] == "66.7 % (2 of 3)"
    assert row(table, "ns")["images seen (median)"] == ("40,000", "40,000 … never")
    assert row(table, "minimax")["images seen (median)"] == ("20,000", "20,000 … never")  # both had 8 at the first look
    assert row(table, "wgan")["wall time (median)"] == "never"


def test_runs_that_did_not_finish_are_listed_with_their_reason(sweep):
    table = troubles(ranking(sweep))
    assert row(table, "minimax")["why"] == "D's loss is nan at step 7"
    assert row(table, "minimax")["images seen"] == "20,128 of 60,000"
    assert row(table, "wgan")["which seeds"] == "1–2"
    assert row(table, "ls")["status"] == "unfinished"


def test_the_verdict_needs_seeds(tmp_path):
    for seed in range(1, 6):
        single(tmp_path / f"a{seed}", [scores(8, 0.1)], loss="ns", seed=seed)
        single(tmp_path / f"b{seed}", [scores(8, 0.5)], loss="ls", seed=seed)
    assert "5 seeds in common: too few" in ranking(tmp_path).verdict()
    for loss, kl in (("ns", 0.1), ("ls", 0.5)):
        single(tmp_path / f"{loss}6", [scores(8, kl)], loss=loss, seed=6)
    assert "The 6 seeds in common tell it from the next, ls" in ranking(tmp_path).verdict()
    single(tmp_path / "ls7", [scores(8, 0.0)], loss="ls", seed=7)
    single(tmp_path / "ns7", [scores(8, 4.5)], loss="ns", seed=7)
    assert "7 seeds in common do not tell" in ranking(tmp_path).verdict()


def test_ensembles_beside_single_runs(tmp_path):
    finals = {seed: None if seed == 4 else scores(8, 0.1) for seed in range(1, 11)}
    ensemble(tmp_path / "ens", finals, loss="minimax")
    single(tmp_path / "one", [scores(8, 0.1)], loss="ns", seed=3)
    found = ranking(tmp_path)
    assert row(leaderboard(found), "minimax (ensemble)")["seeds"] == ("10", "1 failed")
    assert row(leaderboard(found), "minimax (ensemble)")["success (all 8)"][0] == "90 %"
    assert row(costs(found), "minimax (ensemble)")["seeds at once"] == "10"
    assert row(costs(found), "minimax (ensemble)")["images/s, all seeds (median)"] == "1,000"
    assert row(costs(found), "minimax (ensemble)")["peak memory (largest)"] == "3 MiB"
    assert row(coverage(found), "minimax (ensemble)")["wall time (median)"] == "20 s"
    assert row(differences(found), "minimax (ensemble)")["seeds in common"] == "0"  # nor is a copy a single run's pair
    assert found.verdict().endswith("It has no seed to compare with the next, minimax (ensemble).")
    protocol = dict(card(found).rows)
    assert (protocol["seeds of minimax (ensemble)"], protocol["seeds of ns"]) == ("1–10", "3")


def with_claims(folder, claims):
    for config in folder.glob("*/config.yaml"):
        config.write_text(config.read_text() + f"published: {json.dumps(claims)}\n")


def test_published_figures_stand_beside_what_was_found(tmp_path):
    """Published per loss or per setting; 0.47 of 1 is inside Wilson's interval of 2 in 4, and 0.99 is not."""
    claims = {"source": "A paper, 200 seeds", "ns": {"success": 0.47, "modes": 7.0}, "ls pack=2": {"success": 0.99}}
    for seed, modes in enumerate((8, 8, 0, 0), 1):
        single(tmp_path / f"ns{seed}", [scores(modes, 0.1)], seed=seed)
        for pack in (1, 2):
            single(tmp_path / f"ls{pack}{seed}", [scores(modes, 0.1)], loss="ls", seed=seed, pack=pack)
    with_claims(tmp_path, claims | {"minimax": {"success": 0.47}})
    table = published(ranking(tmp_path))
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
        (("max_images=9", "trainer=cpu", "metrics.samples=2500", "logger=csv"), "ns", True),  # its length and its looks
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
def test_a_published_figure_stands_beside_the_paper_s_setting_alone(tmp_path, overrides, name, stands):
    single(tmp_path, [scores(8, 0.1)], overrides=overrides, pack=2)
    ((setting,),) = group(find_runs([tmp_path]))
    assert is_claimed(setting, name) is stands


@pytest.mark.parametrize("experiment", ["ring_alpha", "ring_pac", "grid_pac", "stacked"])
def test_every_published_figure_of_the_experiments_is_a_metric_that_is_measured(experiment):
    from ganlab.config.paths import conf_folder

    claims = yaml.safe_load((Path(conf_folder()) / "experiment" / f"{experiment}.yaml").read_text())["published"]
    assert claims.pop("source")
    measured = {"modes", "high_quality", "reverse_kl", "success", "failure", "kl_uniform"}
    for name, figures in claims.items():
        assert (Path(conf_folder()) / "loss" / f"{name.split()[0]}.yaml").exists()
        assert set(figures) <= measured
        assert all(0 <= figures.get(share, 0) <= 1 for share in ("high_quality", "success", "failure"))


def test_packs_of_equal_updates_are_ranked_together(tmp_path):
    """PacGAN's table: 100 packs a batch and 10,000 updates of D, so 1, 2 and 4 million points."""
    for pack in (1, 2, 4):
        folder = single(tmp_path / f"{pack}", [scores(8, 0.1 * pack)], pack=pack, budget=1_000_000 * pack)
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("batch_size: 128", f"batch_size: {100 * pack}"))
    found = ranking(tmp_path)
    assert [setting.name for setting in found.ranked] == ["ns pack=1", "ns pack=2", "ns pack=4"]
    assert found.settings[0].card["budget (real images)"].startswith("10,000 updates of D (pack=1: 1,000,000; pack=2: 2,0")
    assert build([tmp_path]).sections[0].title == "Ring, N = 2,500, 10,000 updates of D"


@pytest.mark.parametrize("packs, batches, budgets", [
    ((1, 2), (100, 100), (1_000_000, 2_000_000)),  # twice the updates
    ((1, 1), (100, 200), (1_000_000, 2_000_000)),  # equal updates, but no pack that would explain it
])  # fmt: skip
def test_other_budgets_stay_apart(tmp_path, packs, batches, budgets):
    for i, (pack, batch, budget) in enumerate(zip(packs, batches, budgets, strict=True)):
        folder = single(tmp_path / f"{i}", [scores(8, 0.1)], pack=pack, budget=budget)
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("batch_size: 128", f"batch_size: {batch}"))
    assert len(group(find_runs([tmp_path]))) == 2


def test_verdicts_have_a_column_where_there_are_any(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1)], measured={"verdicts": {"current": ["MODE_COLLAPSE"]}})
    single(tmp_path / "b", [scores(8, 0.1)], seed=2, measured={"verdicts": {"current": ["MODE_COLLAPSE", "OSCILLATION"]}})
    single(tmp_path / "c", [scores(8, 0.1)], loss="ls")
    several = ensemble(tmp_path / "d", {seed: scores(8, 0.1) for seed in (1, 2, 3)}, loss="minimax") / "summary.json"
    said = {"current": ["MODE_COLLAPSE", "HEALTHY"], "seeds": {"MODE_COLLAPSE": [1, 3], "HEALTHY": [2]}, "history": []}
    several.write_text(json.dumps(json.loads(several.read_text()) | {"verdicts": said}))
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ns")["verdict at the end"] == "MODE_COLLAPSE 2 of 2, OSCILLATION 1 of 2"
    assert row(board, "minimax (ensemble)")["verdict at the end"] == "MODE_COLLAPSE 2 of 3, HEALTHY 1 of 3"
    assert row(board, "ls")["verdict at the end"] == "–"
    assert row(board, "a perfect sampler")["verdict at the end"] == ""


def test_a_run_that_is_not_over_takes_no_result_away(tmp_path):
    single(tmp_path / "ns", [scores(8, 0.1)])
    single(tmp_path / "ls", [scores(8, 0.2)], loss="ls")
    again = single(tmp_path / "ns_again", [scores(1, 3.0)], over=False)
    os.utime(again / "config.yaml", (2**32, 2**32))
    report = build([tmp_path])
    board = report.sections[0].tables[0]
    assert [cells[:3] for cells in board.rows[:2]] == [["1", "ns", "1"], ["2", "ls", "1"]]
    assert any(note.startswith("Left out: 1 run of a config and seed that were run more than once.") for note in board.notes)
    assert report.warnings == [] and "Runs that did not finish" not in [table.title for table in report.sections[0].tables]


def test_seeds_that_ended_before_their_budget_are_marked(tmp_path):
    """Budgets are 60,000 images; one is used up at exactly that or at a whole batch above."""
    single(tmp_path / "ns1", [scores(8, 0.1)], seed=1)
    single(tmp_path / "ns2", [scores(2, 0.4)], seed=2, ended=640, measured={"ended_by": "MODE_COLLAPSE"})
    single(tmp_path / "ns3", [scores(4, 0.4)], seed=3, ended=59_904)  # a batch short of the budget
    single(tmp_path / "ls1", [scores(8, 0.4)], loss="ls", seed=1, ended=60_000)
    single(tmp_path / "ls2", None, loss="ls", seed=2, error="nan")
    single(tmp_path / "ls3", [scores(8, 0.4)], loss="ls", seed=3, over=False)
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ns")["seeds"] == ("3", "2 ended early at 640 … 59,904 images")
    assert row(board, "ns")["mean kl_with_off_mode_2500 ▾"][0] == "0.3"
    assert row(board, "ls")["seeds"] == ("3", "1 failed, 1 unfinished")
    (note,) = (note for note in board.notes if "ended early" in note)
    assert note.startswith("2 seeds ended early, short of max_images (1 by MODE_COLLAPSE): ")


def test_the_seeds_of_an_ensemble_that_ended_early_are_marked(tmp_path):
    ensemble(tmp_path / "early", {1: scores(8, 0.1), 2: None, 3: scores(8, 0.1)}, ended=20_480)
    ensemble(tmp_path / "full", {1: scores(8, 0.1), 2: scores(8, 0.2)}, loss="minimax")
    board = leaderboard(ranking(tmp_path))
    assert row(board, "ns")["seeds"] == ("3", "1 failed, 2 ended early at 20,480 images")
    assert row(board, "minimax")["seeds"] == "2"
    assert any(note.startswith("2 seeds ended early, short of max_images: ") for note in board.notes)


def test_captions_say_how_many_settings_and_which_seeds_they_show(tmp_path):
    for i in range(17):
        for seed in (1, 2):
            single(tmp_path / f"s{i}-{seed}", [scores(8, 0.1 * seed)], seed=seed, n_critic=i)
    (section,) = build([tmp_path]).sections
    assert all(picture.caption.endswith("The best 16 of 17 settings.") for picture in section.seeds)
    assert all(picture.caption.endswith("The best 8 of 17 settings.") for picture in section.curves)


def test_the_picture_of_an_ensemble_names_its_seeds(tmp_path):
    """The first 16 members that did not fail."""
    finals = {seed: None if seed in (2, 3) else scores(8, 0.1) for seed in range(1, 21)}
    folders.picture(ensemble(tmp_path / "whole", finals) / "samples.png")
    captions = {picture.caption for picture in build([tmp_path]).sections[0].samples}
    assert captions == {"ns, seeds 1, 4–18 of 20"}


# The page --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Whether tags nest; what a page loads; the text of its tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.tables, self.alts = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        if tag == "img":
            self.alts.append(attrs.get("alt"))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "small":
            self.tables[-1][-1][-1] += " ("
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "small":
            self.tables[-1][-1][-1] += ")"

    def handle_data(self, data):
        if {"td", "th"}.intersection(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture
def written(sweep, tmp_path):
    main([str(sweep), f"out={tmp_path / 'page'}"])
    return tmp_path / "page"


def test_the_page_stands_alone(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert all(page.alts)
    for source in page.sources:
        Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))).verify()
    assert "<b>diverged" not in text and "&lt;b&gt;diverged&lt;/b&gt; | at once" in text


def test_markdown_has_the_same_tables(written):
    page = Page((written / "report.html").read_text())
    lines = (written / "report.md").read_text().splitlines()
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines if line.startswith("|")]
    cells = [[cell.strip().replace("\\|", "|") for cell in row] for row in cells if not set("".join(row)) <= set("-: ")]
    shown = [row for table in page.tables for row in table]
    assert sorted(map(str, shown)) == sorted(map(str, cells))
    for name in re.findall(r"\]\((report/[^)]+)\)", "\n".join(lines)):
        assert (written / name).exists()


def test_learning_curves_samples_and_gif(written):
    names = {path.name for path in (written / "report").iterdir()}
    metrics = ("kl_with_off_mode_2500", "modes_2500")
    assert {f"a_{m}_{kind}.png" for m in metrics for kind in ("images", "seconds", "seeds")} <= names
    assert {"a_samples_1.png", "a_training_1.gif", "a_samples_2.png", "a_training_2.gif"} <= names
    with Image.open(written / "report" / "a_training_1.gif") as gif:
        assert gif.n_frames == 2 and gif.info.get("loop") == 0


def test_a_curve_is_the_median_and_a_seed_that_failed_stays_in_it(tmp_path):
    """Looks of three seeds: 3 5 8, 3 8 8 and 3, then failed: from there on it counts with 0 modes."""
    for seed, modes in enumerate(((3, 5, 8), (3, 8, 8), (3,)), 1):
        error = "nan" if len(modes) == 1 else None
        single(tmp_path / f"{seed}", [scores(m, 0.1) for m in modes], seed=seed, error=error)
    ((setting,),) = group(find_runs([tmp_path]))
    x, low, middle, high = band(setting, "modes_2500", "images", folders.protocol())
    assert (x, low, middle, high) == ([20_000, 40_000, 60_000], [3, 0, 0], [3, 5, 8], [3, 8, 8])
    seconds = band(setting, "modes_2500", "seconds", folders.protocol())[0]
    assert seconds == pytest.approx([2 * 20_000 / 20_128, 4 - 2 * 128 / 20_000, 6 - 2 * 128 / 20_000], rel=0.01)


def test_a_long_training_s_gif_is_short_and_ends_with_the_end(tmp_path):
    for i in range(100):
        folders.picture(tmp_path / "samples" / f"{i:010d}.png", "red" if i < 99 else "blue")
    (tmp_path / "samples" / "0000000050.png").write_bytes(b"half a picture")
    single(tmp_path, [scores(8, 0.1)])
    (run,) = find_runs([tmp_path])
    with Image.open(BytesIO(training_gif(run))) as gif:
        colors = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            colors.append(gif.convert("RGB").getpixel((30, 30)))
        assert 2 <= gif.n_frames <= FRAMES
    assert colors[-1][2] > 200 and colors[-1][0] < 50


def test_different_protocols_are_different_rankings_and_it_says_why(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1)], loss="ns")
    single(tmp_path / "b", [scores(8, 0.2)], loss="ls", ema=0)
    report = build([tmp_path])
    assert len(report.sections) == 2
    assert "must not be compared" in report.warnings[0] and "EMA of the generator (0.999 / 0)" in report.warnings[0]
    assert report.protocols.rows == [["EMA of the generator", "0.999", "0"]]
    for section in report.sections:
        assert len([cells for cells in section.tables[0].rows if cells[0] == "1"]) == 1


def test_seeds_of_one_config_are_not_averaged_over_two_protocols(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1)], seed=1)
    single(tmp_path / "b", [scores(8, 0.3)], seed=2, card=folders.protocol(fingerprint="cd" * 32))
    report = build([tmp_path])
    values = [row(section.tables[0], "ns")["kl_with_off_mode_2500 ▾"] for section in report.sections]
    assert values == ["0.1", "0.3"]
    assert report.warnings[0].endswith("differ in: data fingerprint (abababababababab… / cdcdcdcdcdcdcdcd…).")


def test_the_protocol_card_has_every_field(written):
    card = dict(row for row in Page((written / "report.html").read_text()).tables[-1])
    assert card["data"] == "Ring"
    assert card["data fingerprint"] == "abababababababab…"
    assert card["N (samples per look)"] == "2,500"
    assert (card["precision"], card["EMA of the generator"], card["seeds of ns"]) == ("32-true", "0.999", "1–3")
    assert card["budget (real images)"] == "60,000"
    assert "split" in card


def test_a_run_still_under_way_is_shown_and_said(tmp_path):
    single(tmp_path, [scores(3, 0.9)], over=False, pictures=True)
    report = build([tmp_path])
    assert "1 run has left no result" in report.warnings[0]
    (section,) = report.sections
    assert section.verdict == "Nothing to rank yet: no seed has finished."
    assert section.tables[0].rows[0][:3] == ["–", "ns", ("1", "1 unfinished")]
    assert section.curves and section.samples


def test_runs_that_left_nothing_but_an_error(tmp_path):
    for seed in (1, 2):
        folder = tmp_path / f"seed={seed}"
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps({"name": "x", "status": "failed", "error": "no GPU"}))
    report = build([tmp_path])
    text = " ".join(str(table.rows) for section in report.sections for table in section.tables)
    assert text.count("no GPU") == 2
    main([str(tmp_path)])
    Page((tmp_path / "report.html").read_text())


def test_runs_without_a_quality_metric(tmp_path):
    none = {"quality": None, "real": None, "objective": None, "protocol": None}
    single(tmp_path, [], measured=none)
    main([str(tmp_path)])
    assert "measured no quality" in (tmp_path / "report.html").read_text()


def test_by_default_the_page_stands_in_the_first_folder(sweep, capsys):
    main([str(sweep)])
    assert (sweep / "report.html").exists() and (sweep / "report.md").exists()
    printed = capsys.readouterr().out
    assert str(sweep / "report.html") in printed and "minimax" in printed
    before = (sweep / "report.md").read_text()
    main([str(sweep)])  # the report's own folder is no run
    assert (sweep / "report.md").read_text() == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "needs the folder of a run"),
        (["{folder}", "metrics=modes"], "report has no option metrics=, perhaps metric was meant"),
        (["{folder}", "metric=fid"], "no run here has metric=fid; choose one of modes_2500, .*success, failure"),
        (["{folder}/nothing"], "is not there"),
        (["{folder}", "out={folder}/file/below"], "cannot be written to .*choose another place with out="),
    ],
)
def test_bad_input_gets_a_sentence(sweep, arguments, words):
    (sweep / "file").write_text("")
    with pytest.raises(ValueError, match=words) as raised:
        main([argument.format(folder=sweep) for argument in arguments])
    assert "\n" not in str(raised.value)


def test_a_folder_named_like_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    single(tmp_path / "seed=1", [scores(8, 0.1)])
    main(["seed=1"])
    assert (tmp_path / "seed=1" / "report.html").exists()


def test_a_thousand_runs_within_a_minute(tmp_path):
    for i in range(1000):
        single(tmp_path / f"{i}", [scores(i % 9, 0.1)] * 3, loss=("ns", "ls")[i % 2], seed=i // 100, n_critic=i % 100 // 2)
    started = time.perf_counter()
    main([str(tmp_path)])
    assert time.perf_counter() - started < 60
    assert "1,000 seeds (1,000 finished)" in (tmp_path / "report.md").read_text()


def test_a_real_sweep(cli, tmp_path):
    """Names come from the loss presets, toys are drawn over their density from the last checkpoint."""
    short = ["max_images=1300", "eval_every=640", "logger=csv", "trainer=cpu", "hydra.sweep.dir=sweep"]
    code, printed = cli("-m", "+experiment=ring", "loss=minimax,wgan_gp", *short)
    assert code == 0, printed
    report = build([tmp_path / "sweep"])
    (section,) = report.sections
    assert {cells[1] for cells in section.tables[0].rows} == {"minimax", "wgan_gp", "a perfect sampler"}
    assert [cells[2] for cells in section.tables[0].rows[:2]] == ["1", "1"]  # no run ends short of a budget between batches
    (run, _) = find_runs([tmp_path / "sweep"])
    with Image.open(BytesIO(over_density(run))) as picture:
        colors = picture.convert("RGB").getcolors(1_000_000)
    assert any(r > 150 and g < 120 and b < 120 for _, (r, g, b) in colors)  # samples
    assert len([picture for picture in section.samples if picture.name.endswith("gif")]) == 2


# Texts -----------------------------------------------------------------------------------------------------------


def test_texts():
    assert ranges([3, 1, 2, 7, 9, 10]) == "1–3, 7, 9–10"
    assert [number(x) for x in (0.012345, 17.186, 123456.0, math.inf, 0.0)] == ["0.01235", "17.19", "123,456", "∞", "0"]
    assert [duration(x) for x in (4.567, 200, 7200)] == ["4.57 s", "3.33 min", "2 h"]


def test_a_run_that_was_refused_before_it_began_is_in_no_number(tmp_path):
    single(tmp_path / "a", [scores(8, 0.1)], seed=1)
    refused = tmp_path / "b"
    refused.mkdir()
    (refused / "summary.json").write_text(json.dumps({"name": "x", "status": "refused", "error": "gan.n_critic must be"}))
    report = build([tmp_path])
    assert "1 run never began to train" in report.warnings[0]
    assert report.title == "ganlab report: 1 run"
    with pytest.raises(ValueError, match="none of the 1 runs here began to train"):
        build([refused])
