"""Failure detection during training, in three steps that `Monitor` runs every so many updates of D.

1. probes.py computes numbers on a fixed held-out batch (held_out.py, functional.py, sample_statistics.py).
2. rules.py compares them with the calibrated thresholds.json, and history.py turns that into verdicts with patience.
3. messages.py says what a verdict means and what to try that the run does not do already.
"""

from ganlab.diagnostics.monitor import Monitor
from ganlab.diagnostics.rules import VERDICTS

__all__ = ["VERDICTS", "Monitor"]
