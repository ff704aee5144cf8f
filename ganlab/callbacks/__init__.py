"""Lightning callbacks: evaluation, sample grids, tables, checkpoints, the image budget and the progress bar."""

from ganlab.callbacks.checkpoints import Checkpoints
from ganlab.callbacks.counterfactual import Counterfactual
from ganlab.callbacks.evaluation import Evaluation, SeedTable
from ganlab.callbacks.periodic import MaxImages, Periodic
from ganlab.callbacks.progress import ProgressBar
from ganlab.callbacks.sample_grid import SampleGrid
from ganlab.callbacks.train_metrics import TrainMetrics
from ganlab.callbacks.vanishing import Vanishing

__all__ = [
    "Checkpoints", "Counterfactual", "Evaluation", "MaxImages", "Periodic", "ProgressBar", "SampleGrid",
    "SeedTable", "TrainMetrics", "Vanishing",
]  # fmt: skip
