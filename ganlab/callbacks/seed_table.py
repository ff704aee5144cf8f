"""Each seed of an ensemble for itself."""

from __future__ import annotations

from pathlib import Path

from ganlab.callbacks.evaluation import Evaluation
from ganlab.callbacks.periodic import Periodic, find_callback
from ganlab.callbacks.train_metrics import TrainMetrics
from ganlab.utils.files import write_csv


class SeedTable(Periodic):
    """Writes `seeds.csv`, a row per seed and look: `images_seen, seconds` since the start, `seed, status, quality/…`.

    Status: "training", at the last look "finished", or "failed" from the first loss on that was not finite; a failed
    seed's qualities are empty. Nothing for a run that is no ensemble. Stands after `Evaluation`.
    """

    def __init__(self, every: int, folder: str):
        super().__init__(every)
        self.path = Path(folder) / "seeds.csv"
        self.rows: list[dict] = []

    def state_dict(self):
        return super().state_dict() | {"rows": self.rows}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.rows = state["rows"]

    def run(self, trainer, gan):
        if gan.seeds is None:
            return
        quality, record = find_callback(trainer, Evaluation), find_callback(trainer, TrainMetrics)
        scores = quality.by_member if quality else [{}] * len(gan.seeds)
        when = {"images_seen": gan.images_seen, "seconds": round(record.seconds, 3) if record else None}
        for seed, failed, values in zip(gan.seeds, gan.failed.tolist(), scores):
            self.rows.append(when | {"seed": seed, "status": "failed" if failed else "training"} | (values or {}))
        write_csv(self.path, self.rows)

    def on_train_end(self, trainer, gan):
        super().on_train_end(trainer, gan)
        for row in self.rows:
            if row["images_seen"] == gan.images_seen and row["status"] == "training":
                row["status"] = "finished"
        if self.rows:
            write_csv(self.path, self.rows)
