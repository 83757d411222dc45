"""Figures, tables and one page from a run's stored results."""

from brf_exp.report.gallery import draw
from brf_exp.report.load import Run, load_run, newest_run

__all__ = ["Run", "draw", "load_run", "newest_run"]
