"""The report page and its command: self-contained, with all tables, pictures and warnings."""

import base64
import json
import re
import time
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image
from run_factory import make_protocol, scores, write_ensemble, write_picture, write_run

from ganlab.cli.report import main
from ganlab.report import build_report
from ganlab.report.figures import GIF_FRAMES, plot_over_density, quartile_band, training_gif
from ganlab.report.groups import group_runs
from ganlab.report.runs import find_runs


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
    write_run(folder / "script", [scores(8, 4.0)], loss="<script>alert(1)</script>")
    return folder


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


def test_captions_say_how_many_groups_they_show(tmp_path):
    for i in range(17):
        for seed in (1, 2):
            write_run(tmp_path / f"s{i}-{seed}", [scores(8, 0.1 * seed)], seed=seed, n_critic=i)
    (section,) = build_report([tmp_path]).sections
    assert all(picture.caption.endswith("The best 16 of 17 settings.") for picture in section.seeds)
    assert all(picture.caption.endswith("The best 8 of 17 settings.") for picture in section.curves)


def test_caption_of_an_ensemble_names_the_seeds_shown(tmp_path):
    """The first 16 members that did not fail."""
    finals = {seed: None if seed in (2, 3) else scores(8, 0.1) for seed in range(1, 21)}
    write_picture(write_ensemble(tmp_path / "whole", finals) / "samples.png")
    captions = {picture.caption for picture in build_report([tmp_path]).sections[0].samples}
    assert captions == {"ns, seeds 1, 4–18 of 20"}


@pytest.fixture
def written(sweep, tmp_path):
    main([str(sweep), f"out={tmp_path / 'page'}"])
    return tmp_path / "page"


def test_page_is_self_contained_and_escaped(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert all(page.alts)
    for source in page.sources:
        Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))).verify()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text.replace("<wbr>", "")
    assert "<b>diverged" not in text and "&lt;b&gt;diverged&lt;/b&gt; | at once" in text


def test_markdown_has_the_tables_of_the_page(written):
    page = Page((written / "report.html").read_text())
    lines = (written / "report.md").read_text().splitlines()
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines if line.startswith("|")]
    cells = [[cell.strip().replace("\\|", "|") for cell in row] for row in cells if not set("".join(row)) <= set("-: ")]
    shown = [row for table in page.tables for row in table]
    assert sorted(map(str, shown)) == sorted(map(str, cells))
    for name in re.findall(r"\]\((report/[^)]+)\)", "\n".join(lines)):
        assert (written / name).exists()


def test_picture_files(written):
    names = {path.name for path in (written / "report").iterdir()}
    metrics = ("kl_with_off_mode_2500", "modes_2500")
    assert {f"a_{m}_{kind}.png" for m in metrics for kind in ("images", "seconds", "seeds")} <= names
    assert {"a_samples_1.png", "a_training_1.gif", "a_samples_2.png", "a_training_2.gif"} <= names
    with Image.open(written / "report" / "a_training_1.gif") as gif:
        assert gif.n_frames == 2 and gif.info.get("loop") == 0


def test_curve_is_the_median_with_failed_seeds_at_the_worst(tmp_path):
    """Evaluations of three seeds: 3 5 8, 3 8 8 and 3, then failed: from there on it counts with 0 modes."""
    for seed, modes in enumerate(((3, 5, 8), (3, 8, 8), (3,)), 1):
        error = "nan" if len(modes) == 1 else None
        write_run(tmp_path / f"{seed}", [scores(m, 0.1) for m in modes], seed=seed, error=error)
    ((group,),) = group_runs(find_runs([tmp_path]))
    x, low, middle, high = quartile_band(group, "modes_2500", "images", make_protocol())
    assert (x, low, middle, high) == ([20_000, 40_000, 60_000], [3, 0, 0], [3, 5, 8], [3, 8, 8])
    seconds = quartile_band(group, "modes_2500", "seconds", make_protocol())[0]
    assert seconds == pytest.approx([2 * 20_000 / 20_128, 4 - 2 * 128 / 20_000, 6 - 2 * 128 / 20_000], rel=0.01)


def test_gif_of_a_long_training_is_short_and_ends_with_its_end(tmp_path):
    for i in range(100):
        write_picture(tmp_path / "samples" / f"{i:010d}.png", "red" if i < 99 else "blue")
    (tmp_path / "samples" / "0000000050.png").write_bytes(b"half a picture")
    write_run(tmp_path, [scores(8, 0.1)])
    (run,) = find_runs([tmp_path])
    with Image.open(BytesIO(training_gif(run))) as gif:
        colors = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            colors.append(gif.convert("RGB").getpixel((30, 30)))
        assert 2 <= gif.n_frames <= GIF_FRAMES
    assert colors[-1][2] > 200 and colors[-1][0] < 50


def test_page_names_the_fields_in_which_protocols_differ(tmp_path):
    write_run(tmp_path / "a", [scores(8, 0.1)], loss="ns")
    write_run(tmp_path / "b", [scores(8, 0.2)], loss="ls", ema=0)
    report = build_report([tmp_path])
    assert len(report.sections) == 2
    assert "must not be compared" in report.warnings[0] and "EMA of the generator (0.999 / 0)" in report.warnings[0]
    assert report.protocol_differences.rows == [["EMA of the generator", "0.999", "0"]]
    for section in report.sections:
        assert len([cells for cells in section.tables[0].rows if cells[0] == "1"]) == 1


def test_results_are_not_averaged_over_two_protocols(tmp_path):
    write_run(tmp_path / "a", [scores(8, 0.1)], seed=1)
    write_run(tmp_path / "b", [scores(8, 0.3)], seed=2, card=make_protocol(fingerprint="cd" * 32))
    report = build_report([tmp_path])
    leaders = [dict(zip(section.tables[0].header, section.tables[0].rows[0], strict=True)) for section in report.sections]
    assert [leader["kl_with_off_mode_2500 ▾"] for leader in leaders] == ["0.1", "0.3"]
    assert report.warnings[0].endswith("in: data fingerprint (abababababababab… / cdcdcdcdcdcdcdcd…).")


def test_protocol_table(written):
    protocol = dict(row for row in Page((written / "report.html").read_text()).tables[-1])
    assert protocol["data"] == "Ring"
    assert protocol["data fingerprint"] == "abababababababab…"
    assert protocol["N (samples per evaluation)"] == "2,500"
    assert (protocol["precision"], protocol["EMA of the generator"], protocol["seeds of ns"]) == ("32-true", "0.999", "1–3")
    assert protocol["budget (real images)"] == "60,000"
    assert "split" in protocol


def test_run_that_is_still_training(tmp_path):
    write_run(tmp_path, [scores(3, 0.9)], finished=False, pictures=True)
    report = build_report([tmp_path])
    assert "1 run has left no result" in report.warnings[0]
    (section,) = report.sections
    assert section.ranking.conclusion() == "Nothing to rank yet: no seed has finished."
    assert section.tables[0].rows[0][:3] == ["–", "ns", ("1", "1 unfinished")]
    assert section.curves and section.samples


def test_runs_with_damaged_config(tmp_path):
    for seed in (1, 2):
        folder = tmp_path / f"seed={seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text("{")
        (folder / "summary.json").write_text(json.dumps({"name": "x", "status": "failed", "error": "no GPU"}))
    report = build_report([tmp_path])
    text = " ".join(str(table.rows) for section in report.sections for table in section.tables)
    assert text.count("no GPU") == 2
    main([str(tmp_path)])
    Page((tmp_path / "report.html").read_text())


def test_runs_without_a_quality_metric(tmp_path):
    none = {"quality": None, "real": None, "objective": None, "protocol": None}
    write_run(tmp_path, [], measured=none)
    main([str(tmp_path)])
    assert "measured no quality" in (tmp_path / "report.html").read_text()


def test_default_output_is_the_first_path(sweep, capsys):
    main([str(sweep)])
    assert (sweep / "report.html").exists() and (sweep / "report.md").exists()
    printed = capsys.readouterr().out
    assert str(sweep / "report.html") in printed and "minimax" in printed
    before = (sweep / "report.md").read_text()
    main([str(sweep)])  # report/ is no run
    assert (sweep / "report.md").read_text() == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "needs the directory of a run"),
        (["{folder}", "metrics=modes"], "report has no option metrics=, perhaps metric"),
        (["{folder}", "metric=fid"], "no run here has metric=fid; choose one of modes_2500, .*success, failure"),
        (["{folder}/nothing"], "is not there"),
        (["{folder}", "out={folder}/file/below"], "cannot be written to .*choose another directory with out="),
    ],
)
def test_invalid_arguments(sweep, arguments, words):
    (sweep / "file").write_text("")
    with pytest.raises(ValueError, match=words) as raised:
        main([argument.format(folder=sweep) for argument in arguments])
    assert "\n" not in str(raised.value)


def test_directory_named_like_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "seed=1", [scores(8, 0.1)])
    main(["seed=1"])
    assert (tmp_path / "seed=1" / "report.html").exists()


def test_thousand_runs_within_a_minute(tmp_path):
    for i in range(1000):
        write_run(tmp_path / f"{i}", [scores(i % 9, 0.1)] * 3, loss=("ns", "ls")[i % 2], seed=i // 100, n_critic=i % 100 // 2)
    started = time.perf_counter()
    main([str(tmp_path)])
    assert time.perf_counter() - started < 60
    assert "1,000 seeds (1,000 finished)" in (tmp_path / "report.md").read_text()


def test_a_real_sweep(cli, tmp_path):
    """Names come from the loss presets, toys are drawn over their density from the last checkpoint."""
    short = ["max_images=1300", "eval_every=640", "logger=csv", "trainer=cpu", "hydra.sweep.dir=sweep"]
    code, printed = cli("-m", "+experiment=ring", "loss=minimax,wgan_gp", *short)
    assert code == 0, printed
    report = build_report([tmp_path / "sweep"])
    (section,) = report.sections
    assert {cells[1] for cells in section.tables[0].rows} == {"minimax", "wgan_gp", "a perfect sampler"}
    assert [cells[2] for cells in section.tables[0].rows[:2]] == ["1", "1"]  # no run ends short of a budget between batches
    (run, _) = find_runs([tmp_path / "sweep"])
    with Image.open(BytesIO(plot_over_density(run))) as picture:
        colors = picture.convert("RGB").getcolors(1_000_000)
    assert any(r > 150 and g < 120 and b < 120 for _, (r, g, b) in colors)  # samples
    assert len([picture for picture in section.samples if picture.name.endswith("gif")]) == 2
