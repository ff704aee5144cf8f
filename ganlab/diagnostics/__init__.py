"""What watches a run: probes (numbers), verdicts (words with evidence), and how often they are right (`calibrate`)."""

from ganlab.diagnostics.history import merged
from ganlab.diagnostics.monitor import Monitor
from ganlab.diagnostics.rules import VERDICTS

__all__ = ["VERDICTS", "Monitor", "merged"]
