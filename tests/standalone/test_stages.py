"""`extract-script` and `submit-template`."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.cli import main
from brf_exp.paths import PACKAGE

SCRIPT = PACKAGE / "standalone" / "extract_topk.py"
TEMPLATE = PACKAGE / "standalone" / "template"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [([], "extract_topk.py"), (["out=new folder/x.py"], "new folder/x.py"), (["out=."], "extract_topk.py")],
)
def test_the_script_is_written(
    arguments: list[str], place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # writing it again changes nothing
        assert main(["extract-script", *arguments]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / place)
    assert (tmp_path / place).read_bytes() == SCRIPT.read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def test_other_content_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("mine")
    assert main(["extract-script", "out=mine.py"]) == 2
    assert capsys.readouterr().err == (
        "brf-exp: `out` must be a place where nothing else is, got 'mine.py' with other content. "
        "Say `replace=true` to replace it, or choose another.\n"
    )
    assert path.read_text() == "mine"
    assert main(["extract-script", "out=mine.py", "replace=true"]) == 0
    assert path.read_bytes() == SCRIPT.read_bytes()


def test_a_place_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["extract-script", "out=file/x.py"]) == 2
    assert capsys.readouterr().err.startswith("brf-exp: `out` must be a path that can be written to, got 'file/x.py'")
    assert main(["submit-template", "out=file"]) == 2
    assert capsys.readouterr().err == "brf-exp: `out` must be a folder, got the file 'file'. Choose another.\n"


def test_the_example_is_ingested_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit-template"]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert folder == tmp_path / "example-pair"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in TEMPLATE.iterdir()
    }
    assert main(["ingest", f"submission={folder}"]) == 0
    said = capsys.readouterr()
    assert Path(said.out.splitlines()[-1]) == tmp_path / "runs" / "submissions" / "example-pair"
    assert said.err == ""


def test_an_example_that_was_changed_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit-template", "out=mine"]) == 0
    (tmp_path / "mine" / "b.csv").write_text("mine")
    (tmp_path / "mine" / "a.csv").unlink()
    capsys.readouterr()
    assert main(["submit-template", "out=mine"]) == 2
    assert "`out` must be a place where nothing else is, got 'mine/b.csv'" in capsys.readouterr().err
    assert not (tmp_path / "mine" / "a.csv").exists()


def test_the_rows_of_the_example_are_the_models_own(extract: Callable[..., int], tmp_path: Path) -> None:
    import gzip

    out = tmp_path / "out"
    for model in ("tiny_prose", "tiny_code"):
        assert extract(model, "--text", TEMPLATE / "texts.jsonl", "--out", out, "--k", 10) == 0
    for key in "ab":
        with (TEMPLATE / f"{key}.csv").open(newline="") as file:
            expected: list[dict[str, Any]] = list(csv.DictReader(file))
        with gzip.open(out / f"{key}.csv.gz", "rt", newline="") as file:
            found: list[dict[str, Any]] = list(csv.DictReader(file))
        assert [row.pop("doc_id") for row in found] == [row.pop("doc_id") for row in expected]
        numbers = [np.array([[float(value) for value in row.values()] for row in rows]) for rows in (found, expected)]
        np.testing.assert_allclose(*numbers, atol=1e-5)
