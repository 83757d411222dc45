"""Locks: one holder at a time, whatever happens to their files."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from brf_exp.storage.locks import holder_of, try_lock

HOLD = """
import sys, time
from pathlib import Path
from brf_exp.storage.locks import try_lock
held = try_lock(Path(sys.argv[1]))
print("held" if held else "busy", flush=True)
time.sleep(60)
"""


def test_one_holder_at_a_time_and_no_file_afterwards(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held = try_lock(path)
    assert held is not None
    assert try_lock(path) is None
    assert holder_of(path) == (os.getpid(), os.uname().nodename)
    held.release()
    assert not path.exists()
    again = try_lock(path)
    assert again is not None
    again.release()


def test_death_releases_and_the_file_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        assert holder_of(path) == (holder.pid, os.uname().nodename)
        holder.kill()
    held = try_lock(path)
    assert held is not None
    assert holder_of(path) == (os.getpid(), os.uname().nodename)
    held.release()


def test_a_folder_that_was_moved(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    held = try_lock(tmp_path / "here" / ".lock")
    assert held is not None
    (tmp_path / "here").rename(tmp_path / "there")
    held.release()
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "here" / ".lock")


@pytest.mark.parametrize("text", ["", "[1]", '{"pid": "x", "host": "h"}', '{"pid": 1}', "\x00"])
def test_an_unsigned_lock_has_no_known_holder(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lock").write_text(text)
    assert holder_of(tmp_path / ".lock") is None


def test_many_threads_never_hold_it_together(tmp_path: Path) -> None:
    """Each release removes the file: a thread that opened the old one must not think that it holds the new one."""
    inside, together, n_held = [], [], []

    def worker() -> None:
        mine = 0
        while mine < 20:
            held = try_lock(tmp_path / ".lock")
            if held is not None:
                mine += 1
                inside.append(1)
                n_held.append(1)
                if len(inside) > 1:
                    together.append(1)
                inside.pop()
                held.release()

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together
    assert len(n_held) == 120
