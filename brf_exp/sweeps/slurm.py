"""What Slurm says of the jobs it has, by its own clients: no accounting database is needed."""

import contextlib
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

CLIENT_TIMEOUT_SECONDS = 30
DEFAULT_ARRAY_SIZE = 1000
GONE = "GONE"
# Every other state is an end.
_LIVE = frozenset(
    "COMPLETING CONFIGURING PENDING PREEMPTED REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING RESV_DEL_HOLD RUNNING "
    "SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED".split()
)
_SUBMITTED = "_submitted.pkl"


def is_live(state: str) -> bool:
    """Whether a job in this state will still do something."""
    return state in _LIVE


def states(jobs: Iterable[str]) -> dict[str, str] | None:
    """Slurm's state of each job, GONE for one it has forgotten; None where Slurm does not answer."""
    asked = sorted(set(jobs))
    if not asked:
        return {}
    arrays = ",".join(sorted({main_id(job) for job in asked}))
    listed = _client("squeue", "--noheader", "--array", "--states=all", f"--jobs={arrays}", "--format=%i|%T")
    if listed is None:
        return None
    found = dict(line.strip().split("|", 1) for line in listed.splitlines() if "|" in line)
    return {job: found.get(job, GONE) for job in asked}


def main_id(job: str) -> str:
    """The id of the array that a job is one task of; its own id where it is none."""
    return job.partition("_")[0]


def array_size() -> int:
    """How many jobs one array may have here."""
    shown = _client("scontrol", "show", "config") or ""
    limit = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return max(1, int(limit[1]) - 1) if limit else DEFAULT_ARRAY_SIZE


def submissions(folder: Path | None) -> set[str]:
    """The ids of everything that submitit has submitted from a folder, as far as its files are in place."""
    entries = folder.iterdir() if folder is not None and folder.is_dir() else ()
    return {
        entry.name
        for entry in entries
        if re.fullmatch(r"\d+(_\d+)?", entry.name) and (entry / f"{entry.name}{_SUBMITTED}").exists()
    }


def in_order(ids: set[str], n_jobs: int) -> list[str] | None:
    """The ids of one submission in the order of its jobs; None until all are there, and where others are among them."""
    if len(ids) != n_jobs:
        return None
    return sorted(ids, key=lambda job: int(job.partition("_")[2] or 0))


def log_tail(folder: Path, job: str, n_lines: int = 5) -> str:
    """The last lines of a job's own log."""
    for name in (f"{job}_0_log.err", f"{job}_0_log.out"):
        with contextlib.suppress(OSError):
            lines = (folder / job / name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return " ".join(lines[-n_lines:])
    return ""


def ask_nothing() -> None:
    """Stop submitit from asking the accounting, which many clusters do not have; the record tells how a job went."""
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class Silent(SlurmInfoWatcher):
        def update(self) -> None:
            return None

    SlurmJob.watcher = Silent()


def _client(*command: str) -> str | None:
    """What a client prints; nothing for jobs it does not know, None where it fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return done.stdout
    return "" if "invalid job id" in done.stderr.lower() else None
