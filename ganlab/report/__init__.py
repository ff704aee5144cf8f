"""Compare finished and unfinished runs of any family: tables with intervals, figures and samples on one page."""

from ganlab.report.page import Report, build_report, write_report
from ganlab.report.ranking import Ranking, rank_runs

__all__ = ["Ranking", "Report", "build_report", "rank_runs", "write_report"]
