"""The notebook runs from top to bottom on a run folder, and is stored without outputs."""

import json
import warnings
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "quickstart.ipynb"


def test_no_output_is_stored():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_every_cell_runs_and_every_figure_is_drawn(whole_run, monkeypatch, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("BRF_RUN", str(whole_run))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the notebook machinery, about its own event loops
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute(cwd=str(NOTEBOOK.parent))
    shown = [list(output.get("data", {})) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    assert sum("image/png" in kinds for kinds in shown) == 6
    assert sum("text/html" in kinds for kinds in shown) == 2
