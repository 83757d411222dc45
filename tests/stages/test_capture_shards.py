"""Several processes on one capture: plain ones together, shards in any order, at once, twice, on machines apart."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from brf_exp.errors import ConfigError, InputError

Make = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]

# Each argument behind the first is the shard of one process (`-`: none); all of them start together.
TOGETHER = """
from brf_exp.capture import filling
written = filling.write_part

def noted(path, table):
    tell(f"{os.getpid()} {path.name}")
    return written(path, table)

warmed()
filling.write_part = noted
runs_dir, *shards = arguments
pids = [child(lambda: tell(capture(runs_dir, shard=None if shard == "-" else shard))) for shard in shards]
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
capture(runs_dir)
"""


@pytest.fixture(scope="module")
def whole(capturing: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture that one process made."""
    program = "torch.set_num_threads(1)\ntell(capture(arguments[0]))"
    return Path(capturing(program, tmp_path_factory.mktemp("whole")).stdout.strip())


def content(folder: Path) -> dict[str, object]:
    """Bytes of every file, and capture.json less its environment."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = json.loads((folder / "capture.json").read_text())
    return found | {"capture.json": {key: value for key, value in manifest.items() if key != "environment"}}


@pytest.mark.parametrize(
    "shards",
    [
        pytest.param(["-", "-"], marks=pytest.mark.slow),
        ["-", "-", "-"],
        pytest.param(["4/4", "2/4", "1/4", "3/4"], marks=pytest.mark.slow),
        ["2/2", "2/2", "1/2", "-"],
    ],
)
def test_processes_share_the_work(capturing: Run, whole: Path, tmp_path: Path, shards: list[str]) -> None:
    done = capturing(TOGETHER, tmp_path, *shards)
    lines = done.stdout.splitlines()
    folders = {Path(line) for line in lines if line.startswith("/")}
    written = [line.split()[1] for line in lines if not line.startswith("/")]
    (made,) = [folder for folder in folders if folder.suffix != ".partial"]
    assert content(made) == content(whole)
    assert sorted(written) == sorted(path.name for path in whole.glob("*.parquet"))
    assert not [path for path in made.parent.iterdir() if path.suffix == ".partial"]


def test_shards_one_by_one_in_any_order_and_twice(
    capture_here: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = capture_here(tmp_path / "whole")
    for shard in ("3/4", "1/4", "3/4", "4/4"):
        capsys.readouterr()
        made = capture_here(tmp_path / "shards", shard=shard)
        assert made.name == whole.name + ".partial"
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"brf-exp: shard {shard} is done; ")
    assert " of capture.shard=2/4. The last shard finishes the capture" in line
    made = capture_here(tmp_path / "shards", shard="2/4")
    assert content(made) == content(whole)
    assert capture_here(tmp_path / "shards", shard="1/4") == made


def test_a_share_without_a_part_says_so(capture_here: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = capture_here(tmp_path, shard="100/100")
    assert made.name.endswith(".partial")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "brf-exp: shard 100/100 has none of the 8 parts; 8 of 8 parts are missing, of capture.shard="
    )


def test_shards_of_machines_without_a_shared_disk(
    capture_here: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brf_exp.capture import filling

    whole = capture_here(tmp_path / "whole")
    partials = [capture_here(tmp_path / f"machine-{n}", shard=f"{n}/3") for n in (1, 2, 3)]
    for other in partials[1:]:
        for path in other.glob("*"):  # what `cp OTHER/* HERE` copies
            if not path.name.startswith("."):
                shutil.copy(path, partials[0] / path.name)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(filling, "write_part", fail)
    assert content(capture_here(tmp_path / "machine-1")) == content(whole)


def test_more_shards_than_parts(capture_here: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = capture_here(tmp_path, shard="40/40")
    assert made.suffix == ".partial"
    assert "8 of 8 parts are missing, of capture.shard=" in capsys.readouterr().err
    capture_here(tmp_path, shard="38/40")
    assert "7 of 8 parts are missing" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["0/4", "5/4", "a/b", "1", "1/2/3", " 1/2", ""])
def test_shards_that_cannot_be(capture_here: Make, tmp_path: Path, shard: str) -> None:
    with pytest.raises(ConfigError, match=r"^`capture\.shard` must be n/m with 1 <= n <= m, such as 3/16, got "):
        capture_here(tmp_path, shard=shard)
    assert not list(tmp_path.iterdir())


def test_a_shard_is_no_part_of_the_key(capture_here: Make, tmp_path: Path) -> None:
    assert capture_here(tmp_path, shard="1/1") == capture_here(tmp_path)


def test_waiting_names_the_process_waited_for(capturing: Run, tmp_path: Path) -> None:
    program = """
from brf_exp.capture import teacher_forced
score = teacher_forced.score

def slow(*given, **more):
    time.sleep(1.5)
    return score(*given, **more)

warmed()
teacher_forced.score = slow
first = child(lambda: capture(arguments[0], rows_per_part=10**6))
while not list(Path(arguments[0]).glob("captures/*/*.partial/.part-00000.parquet.lock")):
    time.sleep(0.01)
second = child(lambda: capture(arguments[0], rows_per_part=10**6))
assert [os.waitpid(pid, 0)[1] for pid in (first, second)] == [0, 0]
tell(first)
"""
    done = capturing(program, tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("brf-exp")]
    (line,) = lines
    assert line.startswith(f"brf-exp: waiting for process {done.stdout.strip()} on ")
    assert line.endswith(", which computes part-00000.parquet.")


def test_a_dead_process_is_not_waited_for(capturing: Run, whole: Path, tmp_path: Path) -> None:
    program = """
from brf_exp.capture import filling, teacher_forced
score = teacher_forced.score

def endless(*given, **more):
    time.sleep(600)

def mortal():
    teacher_forced.score = endless
    capture(arguments[0])

warmed()
first = child(mortal)
while not list(Path(arguments[0]).glob("captures/*/*.partial/.part-00000.parquet.lock")):
    time.sleep(0.01)
second = child(lambda: tell(capture(arguments[0])))
while len(list(Path(arguments[0]).glob("captures/*/*.partial/part-*.json"))) < 7:
    time.sleep(0.01)
os.kill(first, signal.SIGKILL)
assert os.waitpid(second, 0)[1] == 0
os.waitpid(first, 0)
"""
    done = capturing(program, tmp_path)
    assert content(Path(done.stdout.strip())) == content(whole)


def test_two_installations_do_not_fill_one_folder(
    capture_here: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from brf_exp.capture import making, workplace
    from brf_exp.capture.parts import Identity

    partial = capture_here(tmp_path, shard="1/2")
    final = partial.with_suffix("")
    versions = making.runs.package_versions()
    monkeypatch.setattr(making.runs, "package_versions", lambda: versions | {"torch": "0.1"})
    made_by = {name: versions[name] for name in workplace.COMPUTING_PACKAGES}
    key = json.loads(next(iter(sorted(partial.glob("part-*.json")))).read_text())["key"]
    place = workplace.enter(final, Identity(key, made_by), n_threads=2)
    assert place is not None
    with pytest.raises(ConfigError, match="must be filled with one version of every package, got .*'torch': '0.1'"):
        capture_here(tmp_path)
    place.leave()
    assert capture_here(tmp_path) == final
    assert capsys.readouterr().err.count("is not used: it was made by") == 4


def test_a_file_system_without_locks(capture_here: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brf_exp.storage import locks

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
    with pytest.raises(
        InputError, match=r"^`runs_dir` must lie on a file system with file locks, got '.*' \(Operation"
    ):
        capture_here(tmp_path)
