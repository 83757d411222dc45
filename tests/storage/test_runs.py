import fcntl
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from brf_exp.errors import InputError, MissingInputError
from brf_exp.storage import runs


def test_strict_json_names_the_value_that_is_not_finite():
    with pytest.raises(ValueError, match=r"not a finite number at \$\.a\[1\]\.b: nan"):
        runs.to_json({"a": [1, {"b": math.nan}]})


def test_numpy_values_become_plain_ones():
    value = {"n": np.int64(3), "x": np.float32(0.5), "v": np.array([1.0, 2.0]), "flag": np.bool_(True)}
    assert json.loads(runs.to_json(value)) == {"n": 3, "x": 0.5, "v": [1.0, 2.0], "flag": True}


def test_keys_depend_on_content_and_not_on_order():
    assert runs.content_key({"a": 1, "b": 2}) == runs.content_key({"b": 2, "a": 1})
    assert runs.content_key({"a": 1}) != runs.content_key({"a": 2})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("org/model", "org-model"), ("../../etc", "etc"), ("", "unnamed"), ("a b\n<c>", "a-b-c"), ("x" * 200, "x" * 80)],
)
def test_slugs_are_one_safe_folder_name(name, expected):
    assert runs.slug(name) == expected


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    final = tmp_path / "made"
    with pytest.raises(RuntimeError, match="stop"), runs.building(final) as partial:
        (partial / "half").write_text("x")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
    with runs.building(final) as partial:
        (partial / "whole").write_text("x")
    assert [path.name for path in final.iterdir()] == ["whole"]


HOLD = """
import sys, time
from pathlib import Path
from brf_exp.storage.runs import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_released_by_death(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "x"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with runs.lock_path(tmp_path / "x").open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()
    holder.communicate()
    with runs.locked(tmp_path / "x"):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    message = r"^`runs_dir` must be a folder to write to, got Not a directory: .*/file/run\. Choose another\.$"
    with pytest.raises(InputError, match=message), runs.locked(tmp_path / "file" / "run" / "x"):
        pass


def test_missing_results_name_the_command(tmp_path):
    with pytest.raises(MissingInputError, match="Make it with `brf-exp run`"):
        runs.load_results(tmp_path, made_by="brf-exp run")


def test_manifests_are_equal_but_for_the_environment():
    first, second = (runs.manifest(stage="s", key="k", determines={"a": 1}) for _ in range(2))
    assert {k: v for k, v in first.items() if k != "environment"} == {
        k: v for k, v in second.items() if k != "environment"
    }
