"""What watches a run. The module computes, callbacks watch."""

from ganlab.callbacks.cadence import Budget, Periodic
from ganlab.callbacks.checkpoints import Checkpoints
from ganlab.callbacks.counterfactual import Counterfactual
from ganlab.callbacks.grids import Grids
from ganlab.callbacks.progress import ProgressBar
from ganlab.callbacks.quality import Quality
from ganlab.callbacks.record import Record
from ganlab.callbacks.seeds import SeedTable
from ganlab.callbacks.vanishing import Vanishing

__all__ = [
    "Budget",
    "Checkpoints",
    "Counterfactual",
    "Grids",
    "Periodic",
    "ProgressBar",
    "Quality",
    "Record",
    "SeedTable",
    "Vanishing",
]
