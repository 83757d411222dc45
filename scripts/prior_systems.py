"""Write docs/prior-systems.md from the list of systems: `python scripts/prior_systems.py`."""

from pathlib import Path

from brf_exp.stages.prior_systems import page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "prior-systems.md"

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
