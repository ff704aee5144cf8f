"""The table at the end of a sweep, over folders that a test fills."""

import csv
import importlib.util
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ganlab.sweep import SweepTable, read_jobs, show

spec = importlib.util.spec_from_file_location("folders", Path(__file__).parent / "report" / "folders.py")
folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folders)
scores = folders.scores


def printed(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show(sorted(read_jobs(folder), key=lambda job: job.folder), folder)
    return capsys.readouterr().out


def test_an_ensemble_s_row_has_median_quartiles_and_the_number_of_seeds(tmp_path, capsys, monkeypatch):
    """Of 0.1, 0.2 … 0.9 the quartiles that occur are 0.3 and 0.7; the failed tenth seed has the worst KL and no mode."""
    finals = {seed: scores(8, seed / 10) for seed in range(1, 10)}
    folders.ensemble(tmp_path / "loss=ns", finals)
    folders.ensemble(tmp_path / "loss=ls", finals | {10: None}, loss="ls")
    text = printed(tmp_path, capsys, monkeypatch)
    title, *lines = text.splitlines()
    assert "best first by the median of quality/kl_with_off_mode_2500" in title
    (ns,) = (i for i, line in enumerate(lines) if "loss=ns" in line)
    (ls,) = (i for i, line in enumerate(lines) if "loss=ls" in line)
    assert ns < ls  # a failed seed is no advantage
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[ns : ns + 2]]
    assert (cells[0][1], cells[0][-1], cells[1][-1]) == ("9", "0.5", "0.3 … 0.7")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[ls : ls + 2]]
    assert (cells[0][1], cells[1][1]) == ("10", "1 failed")
    assert (cells[0][-1], cells[1][-1]) == ("0.55", "0.3 … 0.8")
    assert "median over the seeds, below it the quartiles" in text


def test_single_runs_of_a_setting_are_its_seeds_and_names_are_printed_as_typed(tmp_path, capsys, monkeypatch):
    for seed, kl in enumerate((0.3, 0.1, 0.2), 1):
        folders.single(tmp_path / f"{seed}", [scores(8, kl)], seed=seed, overrides=("regularizer=[r1,r2]",))
    folders.single(tmp_path / "4", None, seed=1, error="[D]'s loss is nan", overrides=("regularizer=[]",))
    text = printed(tmp_path, capsys, monkeypatch)
    assert "regularizer=[r1,r2]" in text and "regularizer=[]" in text and "[D]'s loss is nan" in text
    (line,) = (line for line in text.splitlines() if "regularizer=[r1,r2]" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]][1::4] == ["3", "0.2"]
    (line,) = (line for line in text.splitlines() if "regularizer=[]" in line)
    assert "4.5" not in line  # it has no protocol that bounds the KL


def test_the_table_of_jobs_counts_seeds(tmp_path, capsys):
    folders.ensemble(tmp_path / "loss=ns", {1: scores(8, 0.1), 2: None})
    folders.single(tmp_path / "loss=ls", [scores(8, 0.2)], loss="ls", over=False)  # killed
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "logger": {"csv": {"_target_": "x"}}})
    with pytest.raises(SystemExit, match="1 of 2 jobs failed"):
        SweepTable().on_multirun_end(config)
    with (tmp_path / "sweep.csv").open() as file:
        ls, ns = csv.DictReader(file)
    assert (ns["folder"], ns["status"], ns["seeds_run"], ns["seeds_failed"]) == ("loss=ns", "finished", "2", "1")
    assert ns["images_per_second"] == "1000.0" and ns["quality/modes_2500"] == "8"
    assert (ls["status"], ls["error"]) == ("failed", "left no summary")
