"""Sweeps: the table at their end, the same command again, and Optuna's searches."""

import csv
import os
import re
import shutil

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from run_factory import scores, write_ensemble, write_run

from ganlab.cli.sweep import SweepTable
from ganlab.config.paths import conf_folder
from ganlab.report.ranking import rank_runs
from ganlab.report.sweep import print_sweep_table, read_jobs, write_sweep_table


def printed(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_sweep_table(read_jobs(folder), folder)
    return capsys.readouterr().out


def test_ensemble_row_has_mean_interval_and_number_of_seeds(tmp_path, capsys, monkeypatch):
    """Of 0.1, 0.2 … 0.9 the mean is 0.5 ± 2.306 * 0.2739 / 3; the failed tenth seed has the worst KL, 4.5, and no mode."""
    finals = {seed: scores(8, seed / 10) for seed in range(1, 10)}
    write_ensemble(tmp_path / "loss=ns", finals)
    write_ensemble(tmp_path / "loss=ls", finals | {10: None}, loss="ls")
    text = printed(tmp_path, capsys, monkeypatch)
    title, *lines = text.splitlines()
    assert "best first by the mean of quality/kl_with_off_mode_2500" in title
    (ns,) = (i for i, line in enumerate(lines) if "loss=ns" in line)
    (ls,) = (i for i, line in enumerate(lines) if "loss=ls" in line)
    assert ns < ls  # a failed seed is no advantage
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[ns : ns + 2]]
    assert (cells[0][1], cells[0][2], cells[1][2]) == ("9", "0.5", "0.2895 … 0.7105")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[ls : ls + 2]]
    assert (cells[0][1], cells[1][1]) == ("10", "1 failed")
    assert (cells[0][2], cells[1][2]) == ("0.9", "-0.02352 … 1.824")
    assert (cells[0][-1], cells[1][-1]) == ("∞", "∞ in 1 of 10; median 0.55")
    assert "mean over the seeds, below it its 95 % interval" in text


def test_single_runs_of_a_setting_are_its_seeds(tmp_path, capsys, monkeypatch):
    for seed, kl in enumerate((0.3, 0.1, 0.2), 1):
        write_run(tmp_path / f"{seed}", [scores(8, kl)], seed=seed, overrides=("regularizer=[r1,r2]",))
    write_run(tmp_path / "4", None, seed=1, error="[D]'s loss is nan", overrides=("regularizer=[]",))
    text = printed(tmp_path, capsys, monkeypatch)
    assert "regularizer=[r1,r2]" in text and "regularizer=[]" in text and "[D]'s loss is nan" in text
    (line,) = (line for line in text.splitlines() if "regularizer=[r1,r2]" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]][1::4] == ["3", "0.2"]
    (line,) = (line for line in text.splitlines() if "regularizer=[]" in line)
    assert "4.5" in line  # the worst KL that this protocol knows


def test_table_csv_and_report_have_one_order(tmp_path, capsys, monkeypatch):
    """A failure outweighs a good median; a setting of failures alone comes after those; one that was killed comes last."""
    finals = {"ns": (0.1, 0.1, None), "ls": (0.8, 0.9, 0.7), "wgan": (None, None, None), "minimax": (0.75, 0.2, 0.75)}
    for loss, values in finals.items():
        for seed, kl in enumerate(values, 1):
            history = [scores(8, kl)] if kl else None
            write_run(tmp_path / f"{loss}-{seed}", history, loss=loss, seed=seed, error=None if kl else "nan")
    write_run(tmp_path / "cgan-1", [scores(8, 0.01)], loss="cgan", finished=False)
    jobs = write_sweep_table(tmp_path)
    rows = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "loss=" in line and "│" in line]
    with (tmp_path / "sweep.csv").open() as file:
        folders = [row["folder"].rpartition("-")[0] for row in csv.DictReader(file)]
    (ranking,) = rank_runs([tmp_path])
    names = [group.runs[0].overrides["loss"] for group in ranking.groups]
    assert names == ["minimax", "ls", "ns", "wgan", "cgan"]
    assert rows == [f"loss={name}" for name in names] and [*dict.fromkeys(folders)] == names
    assert len(jobs) == len(folders)


def test_sweep_without_metrics_is_not_ranked(tmp_path, capsys, monkeypatch):
    none = {"quality": None, "real": None, "objective": None, "protocol": None}
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", [], seed=seed, measured=none)
    (tmp_path / "2" / "summary.json").write_text('{"status": "refused", "error": "n_critic"}')
    text = printed(tmp_path, capsys, monkeypatch)
    assert "sweep of 2 jobs" in text and "best" not in text and "mean" not in text and "refused 2: n_critic" in text


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_narrow_terminal_hides_columns_but_not_the_ranking_one(tmp_path, capsys, monkeypatch, columns):
    for gamma, kl in (("0.01", 0.2), ("0.1", 0.1)):
        write_run(tmp_path / gamma, [scores(8, kl)], overrides=(f"regularizer.r1.gamma={gamma}",))
    monkeypatch.setenv("COLUMNS", str(columns))
    print_sweep_table(read_jobs(tmp_path), tmp_path)
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert all(line.endswith("│") for line in rows) and max(map(len, out.splitlines()[:-1])) <= columns
    assert [line.split("│")[3].strip() for line in rows if "gamma" in line] == ["0.1", "0.2"]
    hidden = re.findall(r"\w+_2500", out.partition("no room here for")[2])
    assert len(rows[0].split("│")) - 4 + len(hidden) == len(scores(8, 0.1)) and bool(hidden) == (columns == 50)


def test_sweep_csv_counts_seeds(tmp_path, capsys):
    write_ensemble(tmp_path / "loss=ns", {1: scores(8, 0.1), 2: None})
    write_run(tmp_path / "loss=ls", [scores(8, 0.2)], loss="ls", finished=False)  # killed
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "logger": {"csv": {"_target_": "x"}}})
    with pytest.raises(SystemExit, match="1 of 2 jobs failed"):
        SweepTable().on_multirun_end(config)
    with (tmp_path / "sweep.csv").open() as file:
        ns, ls = csv.DictReader(file)  # in the order of the table
    assert (ns["folder"], ns["status"], ns["seeds_run"], ns["seeds_failed"]) == ("loss=ns", "finished", "2", "1")
    assert ns["images_per_second"] == "1000.0" and ns["quality/modes_2500"] == "8"
    assert (ls["status"], ls["error"]) == ("failed", "ended without a word (killed, or no memory left?)")


TINY = ["logger=csv", "trainer=cpu", "data=ring", "loss=ns", "data.train_size=64", "data.test_size=20", "data.batch_size=16"]
TINY += ["networks.hidden=[8]", "monitor=[]"]


def test_repeated_sweep_command_resumes_and_a_changed_one_is_refused(cli, tmp_path, monkeypatch):
    """Changed: a number in the user's own config file."""
    (tmp_path / "conf" / "mine").mkdir(parents=True)
    (mine := tmp_path / "conf" / "mine" / "a.yaml").write_text("# @package _global_\nmax_images: 64")
    command = ["-m", "--config-dir=conf", *TINY, "metrics=none", "+mine=a", "seed=1,2"]
    command += ["hydra.sweep.dir=sweep", "hydra.sweep.subdir=seed-${seed}"]
    assert cli(*command)[0] == 0
    files = sorted((tmp_path / "sweep").rglob("last.ckpt"))
    times = [path.stat().st_mtime_ns for path in files]
    assert [path.parts[-3] for path in files] == ["seed-1", "seed-2"]
    code, out = cli("resume=sweep")
    assert code == 1 and f"add trust={tmp_path / 'conf'}" in out
    for arguments in (command, ["resume=sweep", f"trust={tmp_path / 'conf'}"]):
        code, out = cli(*arguments)
        assert code == 0 and out.count("is finished already") == 2, out
    mine.write_text("# @package _global_\nmax_images: 128")
    code, out = cli(*command)
    assert code == 1 and "holds a run already" in out
    assert [path.stat().st_mtime_ns for path in files] == times


def test_optuna_search_resumes(cli, tmp_path, monkeypatch):
    """Optuna suggests the same trials again; finished ones are not repeated."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs pip install -e .[sweep]")
    command = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=search"]
    command += [
        *TINY,
        "metrics.samples=20",
        "max_images=32",
        "eval_every=16",
        "regularizer=r1",
        "regularizer.r1.gamma=tag(log, interval(0.01, 10))",
        "hydra.sweep.subdir=${regularizer.r1.gamma}",
    ]
    assert cli(*command)[0] == 0
    results = (tmp_path / "search" / "optimization_results.yaml").read_text()
    trials = {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "search").glob("*/summary.json")}
    assert len(trials) == 3
    lost = sorted(trials, key=trials.get)[-1]
    shutil.rmtree(tmp_path / "search" / lost)
    (tmp_path / "search" / "optimization_results.yaml").unlink()
    assert cli("resume=search")[0] == 0
    resumed = {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "search").glob("*/summary.json")}
    assert resumed.keys() == trials.keys() and {name for name in resumed if resumed[name] != trials[name]} == {lost}
    assert (tmp_path / "search" / "optimization_results.yaml").read_text() == results


def test_interrupted_sweep_prints_its_table(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "seed=1", [scores(8, 0.1)])
    write_run(tmp_path / "seed=2", [scores(8, 0.2)], finished=False)
    registered = []
    monkeypatch.setattr("atexit.register", lambda *call: registered.append(call))
    monkeypatch.setattr("atexit.unregister", lambda call: registered.clear())
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "logger": {}})
    SweepTable().on_multirun_start(config)
    ((end, folder),) = registered
    end(folder)
    printed = capsys.readouterr().out
    assert "sweep of 2 jobs" in printed and "ended without a word" in printed
    assert f"the sweep was interrupted; python -m ganlab resume={tmp_path} continues it" in printed
    with pytest.raises(SystemExit):
        SweepTable().on_multirun_end(config)
    assert not registered


def test_deterministic_preset_reaches_torch(monkeypatch):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        trainer = compose("config", ["trainer=deterministic", "run_dir=run"]).trainer
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        instantiate(trainer, logger=False)
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")  # what cuBLAS needs for it
    finally:
        torch.use_deterministic_algorithms(False)
