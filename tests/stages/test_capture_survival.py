"""A capture that is killed, interrupted, out of disk or damaged: the same bytes in the end, nothing wrong accepted."""

import gc
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brf_exp.errors import InputError
from brf_exp.storage.captures import open_capture

Make = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[2]

# Every change to the runs folder that Python makes is an audit event; a child kills itself right before the n-th one.
KILLED = """
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}

def doomed(runs_dir, fatal):
    n = 0
    def note(event, parameters):
        nonlocal n
        if event in EVENTS and str(runs_dir) in str(parameters[0]):
            n += 1
            if n == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(note)
    capture(runs_dir)
    tell(n)

warmed()
place, seed, n_kills = Path(arguments[0]), int(arguments[1]), int(arguments[2])
read, write = os.pipe()
kept = os.dup(1)
os.dup2(write, 1)
assert os.waitpid(child(lambda: doomed(place / "whole", 0)), 0)[1] == 0
os.dup2(kept, 1)
n_events = int(os.read(read, 100))
whole = content(place / "whole")
chosen = range(n_events - 11, n_events + 1) if seed < 0 else random.Random(seed).sample(range(1, n_events + 1), n_kills)
for fatal in chosen:
    runs_dir = place / f"killed-{fatal}"
    assert os.waitpid(child(lambda: doomed(runs_dir, fatal)), 0)[1] == signal.SIGKILL, fatal
    assert os.waitpid(child(lambda: capture(runs_dir)), 0)[1] == 0, fatal
    again = content(runs_dir)
    assert again == whole, (fatal, sorted(again), sorted(whole))
    shutil.rmtree(runs_dir)
tell(f"{len(chosen)} of {n_events}")
"""


@pytest.mark.parametrize(
    ("seed", "n_kills"), [(1, 5), pytest.param(2, 20, marks=pytest.mark.slow)], ids=["five points", "twenty points"]
)
def test_killed_anywhere_and_gone_on(capturing: Run, tmp_path: Path, seed: int, n_kills: int) -> None:
    done = capturing(KILLED, tmp_path, seed, n_kills, check=False)
    assert done.returncode == 0, done.stderr
    n_tried, n_events = map(int, done.stdout.split(" of "))
    assert n_tried == n_kills
    assert n_events > 60


@pytest.mark.slow
def test_killed_at_each_step_of_the_finish(capturing: Run, tmp_path: Path) -> None:
    done = capturing(KILLED, tmp_path, -1, 0, check=False)
    assert done.returncode == 0, done.stderr


# Killed when it writes that part.
DYING = """
from brf_exp.capture import filling
write_part, n = filling.write_part, 0
def dying(path, table):
    global n
    n += 1
    if n == {}:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_part(path, table)
filling.write_part = dying
"""


@pytest.fixture(scope="module")
def unfinished(capturing: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose capture was killed behind its sixth part."""
    runs_dir = tmp_path_factory.mktemp("unfinished")
    program = DYING.format(7) + "capture(arguments[0])"
    assert capturing(program, runs_dir, check=False).returncode == -signal.SIGKILL
    return runs_dir


@pytest.fixture(scope="module")
def whole(capture_here: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture that nothing happened to."""
    return capture_here(tmp_path_factory.mktemp("whole"))


def content(folder: Path) -> dict[str, object]:
    """Bytes of every file, and capture.json less its environment."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = json.loads((folder / "capture.json").read_text())
    return found | {"capture.json": {key: value for key, value in manifest.items() if key != "environment"}}


@pytest.fixture
def partial(unfinished: Path, tmp_path: Path) -> Path:
    """A copy of the unfinished capture's folder, to be damaged."""

    shutil.copytree(unfinished, tmp_path / "runs")
    (found,) = (tmp_path / "runs").glob("captures/*/*.partial")
    return found


def test_what_a_killed_process_leaves(partial: Path, whole: Path) -> None:
    parts = sorted(path.name for path in partial.glob("part-*.parquet"))
    assert parts == [f"part-{n:05d}.parquet" for n in range(6)]
    assert {(partial / name).read_bytes() == (whole / name).read_bytes() for name in parts} == {True}
    assert list(partial.glob(".part-*.lock"))


def truncated(partial: Path) -> str:
    path = partial / "part-00002.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    return "part-00002.parquet is not used: its bytes are not those that were written."


def flipped(partial: Path) -> str:
    path = partial / "part-00002.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "part-00002.parquet is not used: its bytes are not those that were written."


def lost(partial: Path) -> str:
    (partial / "part-00002.parquet").unlink()
    return "part-00002.parquet is not used: its bytes are not those that were written."


def half_a_side_file(partial: Path) -> str:
    path = partial / "part-00002.json"
    path.write_bytes(path.read_bytes()[:-20])
    return "part-00002.parquet is not used: its side file is damaged."


def side_file_of_another_kind(partial: Path) -> str:
    (partial / "part-00002.json").write_text("[1, 2]")
    return "part-00002.parquet is not used: its side file is damaged."


def other_versions(partial: Path) -> str:
    path = partial / "part-00002.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps(stated | {"made_by": stated["made_by"] | {"torch": "0.1"}}))
    return "part-00002.parquet is not used: it was made by tokenizers "


def another_capture(partial: Path) -> str:
    path = partial / "part-00002.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 64}))
    return "part-00002.parquet is not used: it is of another capture."


def another_part(partial: Path) -> str:
    for suffix in (".parquet", ".json"):
        (partial / f"part-00002{suffix}").write_bytes((partial / f"part-00003{suffix}").read_bytes())
    return "part-00002.parquet is not used: it has other documents."


@pytest.mark.parametrize(
    "damage",
    [
        truncated, flipped, lost, half_a_side_file, side_file_of_another_kind, other_versions, another_capture,
        another_part,
    ],
)  # fmt: skip
def test_a_part_that_is_not_as_written_is_made_again(
    capture_here: Make, partial: Path, whole: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], str]
) -> None:
    expected = damage(partial)
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.parquet") if "00002" not in path.name}
    made, said = capture_here(partial.parents[2]), capsys.readouterr().err
    assert said.count("is not used") == 1 and expected in said
    assert content(made) == content(whole)
    assert {name: (made / name).stat().st_mtime_ns for name in kept} == kept


def test_what_others_put_into_the_folder(
    capture_here: Make, partial: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half-written files, a part beyond the plan and a dead process's lock go; a stranger's file stays as it is."""
    (partial / ".part-00008.parquet.elsewhere-1.partial").write_bytes(b"half")
    (partial / ".texts.jsonl.elsewhere-1.partial").write_bytes(b"half")
    (partial / "part-00099.parquet").write_bytes(b"left by an earlier plan")
    (partial / ".part-00007.parquet.lock").write_text('{"pid": 1, "host": "elsewhere"}')
    (partial / "notes.txt").write_text("mine")
    made = capture_here(partial.parents[2])
    assert "brf-exp" not in capsys.readouterr().err
    assert content(made) == content(whole) | {"notes.txt": b"mine"}


def test_a_finished_capture_that_lost_a_part_is_mended(
    capture_here: Make, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    folder = tmp_path / "captures" / whole.parent.name / whole.name
    shutil.copytree(whole, folder)
    (folder / "part-00001.parquet").unlink()
    truncated(folder)
    kept = (folder / "part-00000.parquet").stat().st_mtime_ns
    assert capture_here(tmp_path) == folder
    assert f"{folder} is damaged: making again what is missing." in capsys.readouterr().err
    assert content(folder) == content(whole)
    assert (folder / "part-00000.parquet").stat().st_mtime_ns == kept
    assert not list(folder.parent.glob("*.partial"))


def test_a_finished_capture_with_a_flipped_bit_is_refused_where_it_is_read(whole: Path, tmp_path: Path) -> None:

    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    opened = open_capture(folder)
    before = opened.read(["logit_1"])["logit_1"]
    path = folder / "part-00002.parquet"
    content = path.read_bytes()
    n_noticed = 0
    for place in range(40, len(content) - 2000, 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            found = open_capture(folder).read(opened.columns[1:])
        except InputError:
            n_noticed += 1
        else:
            assert (found["logit_1"] == before).all()
    assert n_noticed > 10


# --- Signals ----------------------------------------------------------------------------------------------------------

SIGNALLED = """
from brf_exp.capture import teacher_forced
score = teacher_forced.score

def slow(*given, on_tokens, **more):
    def told(n):
        tell("batch")
        time.sleep(0.3)
        on_tokens(n)
    return score(*given, on_tokens=told, **more)

teacher_forced.score = slow
try:
    capture(arguments[0])
except KeyboardInterrupt:
    tell("interrupted")
    sys.exit(130)
"""


@pytest.fixture
def started(capture_command: Callable[..., list[str]]) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts a slow capture; returns it behind its fourth batch."""
    processes = []

    def start(runs_dir: Path) -> subprocess.Popen[str]:
        command = capture_command(SIGNALLED, runs_dir)
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "batch\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_behind_the_batch(
    capture_here: Make, started: Callable[[Path], subprocess.Popen[str]], whole: Path, tmp_path: Path, number: int
) -> None:
    process = started(tmp_path)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "interrupted"
    assert out.count("batch") <= 1
    assert "brf-exp: stopping behind this batch; " in err and "parts are kept. Once more stops at once." in err
    (partial,) = tmp_path.glob("captures/*/*.partial")
    assert not list(partial.glob(".part-*"))
    assert content(capture_here(tmp_path)) == content(whole)


def test_two_signals_stop_at_once(
    capture_here: Make, started: Callable[[Path], subprocess.Popen[str]], whole: Path, tmp_path: Path
) -> None:
    process = started(tmp_path)
    os.kill(process.pid, signal.SIGINT)
    assert process.stderr is not None
    assert "stopping" in process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.count("batch") == 0
    (partial,) = tmp_path.glob("captures/*/*.partial")
    assert content(capture_here(tmp_path)) == content(whole)


# --- A full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems in memory of so many kB; skips where that is not permitted."""
    mounted: list[Path] = []

    def mount(n_kilobytes: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={n_kilobytes}k", "none", str(folder)]
        if not Path("/proc/mounts").exists() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    gc.collect()  # what pytest keeps of an error holds the capture's files open
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("n_kilobytes", [8, 24, 40, 72, 120])
def test_a_full_disk_is_one_line_and_keeps_finished_parts(
    capture_here: Make, small_disk: Callable[[int], Path], whole: Path, n_kilobytes: int
) -> None:
    disk = small_disk(n_kilobytes)
    with pytest.raises(InputError) as caught:
        capture_here(disk)
    line = str(caught.value)
    assert line.startswith("`runs_dir` must have room for about ") and f"got a full disk at '{disk}/captures/" in line
    assert " parts are kept, and the same command goes on." in line
    for partial in disk.glob("captures/*/*.partial"):
        for path in partial.glob("part-*.json"):
            name = path.with_suffix(".parquet").name
            assert (partial / name).read_bytes() == (whole / name).read_bytes()
        assert not [path for path in partial.iterdir() if path.name.endswith(".partial")]
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    assert content(capture_here(disk)) == content(whole)


CUT = """
from brf_exp.capture import filling
write_part, written = filling.write_part, []

def failing(path, table):
    if len(written) == 2:
        raise RuntimeError
    written.append(path)
    return write_part(path, table)

cut, whole = arguments
torch.set_num_threads(1)
filling.write_part = failing
try:
    capture(cut)
except RuntimeError:
    filling.write_part = write_part
torch.set_num_threads(2)
capture(cut)
assert len(written) == 2 and torch.get_num_threads() == 2
torch.set_num_threads(1)
capture(whole)
"""


def test_goes_on_with_as_many_threads_as_it_was_begun_with(capturing: Run, tmp_path: Path) -> None:
    """Threads divide sums differently: half a capture with one and half with two would be a third one."""
    capturing(CUT, tmp_path / "cut", tmp_path / "whole")
    (cut,), (whole,) = ((tmp_path / name).glob("captures/*/[!.]*") for name in ("cut", "whole"))
    assert content(cut) == content(whole)
    assert json.loads((cut / "capture.json").read_text())["environment"]["n_threads"] == 1
