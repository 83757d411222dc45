"""Error rates, power and coverage of every decision rule of the Phase Coherence Test, measured by simulation.

`python -m calibration` computes what is missing under runs/calibration and writes docs/calibration.md.
"""
