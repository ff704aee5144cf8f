"""What watches a run: probes (numbers), verdicts (words with evidence), and how often they are right (`calibrate`)."""

from ganlab.monitor.callback import Monitor
from ganlab.monitor.ledger import merged
from ganlab.monitor.rules import VERDICTS

__all__ = ["VERDICTS", "Monitor", "merged"]
