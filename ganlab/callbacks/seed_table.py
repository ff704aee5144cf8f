"""A table of every seed of an ensemble."""

from __future__ import annotations

from pathlib import Path

from ganlab.callbacks.evaluation import Evaluation
from ganlab.callbacks.periodic import Periodic, find_callback
from ganlab.callbacks.train_metrics import TrainMetrics
from ganlab.utils.files import write_csv


class SeedTable(Periodic):
    """Write `seeds.csv`: a row per seed and evaluation with `images_seen, seconds` since the start, `seed, status, quality/…`.

    The status is "training", "finished" in the last rows, or "failed" once a loss of the seed was not finite; the metrics
    of a failed seed are empty. Writes nothing for a single GAN. Must come after `Evaluation`.
    """

    def __init__(self, every: int, run_dir: str):
        super().__init__(every)
        self.path = Path(run_dir) / "seeds.csv"
        self.rows: list[dict] = []

    def state_dict(self):
        return super().state_dict() | {"rows": self.rows}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.rows = state["rows"]

    def run(self, trainer, gan):
        if gan.seeds is None:
            return
        evaluation, train_metrics = find_callback(trainer, Evaluation), find_callback(trainer, TrainMetrics)
        scores = evaluation.by_member if evaluation else [{}] * len(gan.seeds)
        time = {"images_seen": gan.images_seen, "seconds": round(train_metrics.seconds, 3) if train_metrics else None}
        for seed, failed, values in zip(gan.seeds, gan.failed.tolist(), scores):
            self.rows.append(time | {"seed": seed, "status": "failed" if failed else "training"} | (values or {}))
        write_csv(self.path, self.rows)

    def on_train_end(self, trainer, gan):
        super().on_train_end(trainer, gan)
        for row in self.rows:
            if row["images_seen"] == gan.images_seen and row["status"] == "training":
                row["status"] = "finished"
        if self.rows:
            write_csv(self.path, self.rows)
