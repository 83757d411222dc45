"""Error rates, power and coverage of every decision rule, measured by simulation.

`python -m calibration` computes what is missing under runs/calibration and writes docs/calibration.md.
"""
