"""The report's tables and numbers in Weights & Biases, offline: what W&B itself leaves on the disk."""

import json

import pytest
from run_factory import scores, write_run

from ganlab.report import rank_runs
from ganlab.report import wandb as wandb_report


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "sweep"
    for seed, (ns, ls) in enumerate(((0.1, 0.5), (0.3, 0.4)), 1):
        write_run(folder / f"ns{seed}", [scores(8, ns)], seed=seed)
        write_run(folder / f"ls{seed}", [scores(8, ls)], loss="ls", seed=seed)
    return folder


class Live:
    """What `log_report_tables` needs of a W&B run."""

    def __init__(self):
        self.logged, self.summary = {}, {}

    def log(self, row):
        self.logged |= row


def test_tables_and_numbers(sweep):
    live = Live()
    wandb_report.log_report_tables(live, sweep)
    assert {"report/Leaderboard", "report/Cost", "report/Paired differences", "report/Protocol"} <= set(live.logged)
    board = live.logged["report/Leaderboard"]
    first = dict(zip(board.columns, board.data[0], strict=True))
    assert (first["setting"], first["seeds"], first["mean kl_with_off_mode_2500 ▾"]) == ("ns", "2", "0.2 (-1.071 … 1.471)")
    assert live.summary["report/ns/kl_with_off_mode_2500"] == pytest.approx(0.2)
    assert live.summary["report/ls/kl_with_off_mode_2500"] == pytest.approx(0.45)
    assert live.summary["report/ns/kl_with_off_mode_2500_low"] == pytest.approx(0.2 - 12.7062 * 0.1, abs=1e-4)
    assert live.summary["report/ns/success"] == 1


def test_infinite_numbers_are_left_out(tmp_path):
    write_run(tmp_path, [scores(0, 4.5)])
    (ranking,) = rank_runs([tmp_path])
    assert ranking.finite_numbers()["modes_2500"] == 0 and "reverse_kl_2500" not in ranking.finite_numbers()


def test_two_protocols_have_separate_names(sweep):
    write_run(sweep / "other", [scores(8, 0.7)], loss="minimax", ema=0)
    live = Live()
    wandb_report.log_report_tables(live, sweep)
    assert {"report/Ranking A/Leaderboard", "report/Ranking B/Leaderboard"} <= set(live.logged)
    assert live.summary["report/Ranking B/kl_with_off_mode_2500"] == pytest.approx(0.7)


def test_sweep_run_offline(sweep, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = {"_target_": "ganlab.callbacks.loggers.Wandb", "project": "ganlab", "name": "${name}", "save_dir": "${run_dir}"}
    wandb_report.log_sweep_report(sweep, {"csv": {"_target_": "ganlab.callbacks.loggers.CSV"}, "wandb": settings})
    (table,) = sweep.glob("wandb/offline-run-*/files/media/table/report/Leaderboard_*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"][:3] == ["#", "setting", "seeds"]
    assert [row[:3] for row in content["data"][:2]] == [["1", "ns", "2"], ["2", "ls", "2"]]
    import wandb

    assert wandb.run is None  # finished: a live run would swallow the next job's numbers


def test_nothing_without_wandb(sweep, monkeypatch):
    monkeypatch.setattr(wandb_report, "Wandb", type("Wandb", (), {"__init__": lambda *a, **k: pytest.fail("opened")}))
    wandb_report.log_sweep_report(sweep, {"csv": {"_target_": "ganlab.callbacks.loggers.CSV"}, "wandb": None})


def test_errors_are_logged_and_stop_nothing(tmp_path, caplog, monkeypatch):
    """No run is left to report, and W&B does not start."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = {"_target_": "ganlab.callbacks.loggers.Wandb", "project": "ganlab"}
    wandb_report.log_sweep_report(tmp_path, {"wandb": settings})
    monkeypatch.setattr("wandb.init", lambda **_: (_ for _ in ()).throw(RuntimeError("it broke")))
    wandb_report.log_sweep_report(tmp_path, {"wandb": settings})
    told = "the sweep's report for W&B failed ("
    assert f"{told}there is no run in" in caplog.text and f"{told}RuntimeError: it broke)" in caplog.text
