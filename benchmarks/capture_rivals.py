"""Other tools that score texts, each in an environment of its own with the same torch and transformers as here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "brf-exp-benchmarks"
WORKER = Path(__file__).with_name("rival_worker.py")
BATCHES = (1, 8, 32)


@dataclass(frozen=True)
class Tool:
    """What is installed, how it is named in the table, and how much faster capture is to be."""

    requirement: str
    label: str
    bar: float


TOOLS = {
    "lm_eval": Tool("lm_eval[hf]==0.4.13", "lm-evaluation-harness 0.4.13, `loglikelihood_rolling`", 1.0),
    "minicons": Tool("minicons==0.3.39", "minicons 0.3.39, `compute_stats`", 1.2),
}


def environment(tool: str, cache: Path) -> Path:
    """The Python of the tool's environment, made once."""
    folder = cache / tool
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = [TOOLS[tool].requirement, f"torch=={plain('torch')}", f"transformers=={plain('transformers')}"]
    if ready.is_file() and ready.read_text() == "\n".join(wanted):
        return python
    print(f"installing {wanted[0]} into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    # As scripts/setup.sh does: a local file of torch where pip is configured to find one, else the CPU build.
    local = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wanted[1]]
    if subprocess.run(local, stderr=subprocess.DEVNULL).returncode:
        uv_install(python, "--torch-backend=cpu", wanted[1])
    uv_install(python, *wanted)
    ready.write_text("\n".join(wanted))
    return python


def plain(package: str) -> str:
    """A package's version without the build."""
    return version(package).split("+")[0]


def uv_install(python: Path, *what: str) -> None:
    """Install into an environment."""
    subprocess.run([sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *what], check=True)


class Worker:
    """A tool in a process of its own with the model loaded, waiting for batch sizes."""

    def __init__(self, tool: str, model: Path, texts: Path, cache: Path) -> None:
        command = [environment(tool, cache), WORKER, tool, model, texts]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self.log = Path(texts).with_name(f"{tool}.log")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True, env=offline
        )
        self.answer()

    def answer(self) -> dict[str, float]:
        """The next line; RuntimeError with the end of the log where the process died."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("\n".join(self.log.read_text().splitlines()[-15:]))
        return json.loads(line)

    def score(self, batch: int) -> dict[str, float]:
        """Seconds, positions and nats of one round."""
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def at_its_best(start: Callable[[], Worker]) -> tuple[Worker, int]:
    """The tool at work and its fastest batch size; one that it dies of (for want of memory, say) is none."""
    worker, seconds = start(), {}
    for batch in BATCHES:
        try:
            seconds[batch] = worker.score(batch)["seconds"]
        except (BrokenPipeError, RuntimeError) as error:
            print(f"batches of {batch} texts: {error}", file=sys.stderr)
            worker.close()
            worker = start()
    return worker, min(seconds, key=seconds.__getitem__)


def compare(
    ours: Callable[[], tuple[float, int, float]], model: Path, texts: Path, rounds: int, cache: Path
) -> Iterator[list[str]]:
    """Rows of the table: each tool at its fastest batch size and capture, in turns.

    `ours` gives seconds, positions and the sum of log probabilities of one capture; it must agree with the tools'.
    """
    ours()
    for name, tool in TOOLS.items():
        try:
            environment(name, cache)
        except subprocess.CalledProcessError:
            yield [tool.label, "", "could not be installed here", "", "", "", ""]
            continue
        worker, best = at_its_best(lambda: Worker(name, model, texts, cache))  # noqa: B023
        pairs = [(ours(), worker.score(best)) for _ in range(rounds)]
        worker.close()
        took, positions, nats = pairs[-1][0]
        theirs = pairs[-1][1]
        check_same(name, theirs, positions, nats)
        ratios = [other["seconds"] / mine[0] for mine, other in pairs]
        yield [
            tool.label,
            str(best),
            f"{theirs['positions']:,}",
            f"{theirs['positions'] / np.median([other['seconds'] for _, other in pairs]):,.0f}",
            f"**{np.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{tool.bar:.1f}",
            f"{-theirs['nats'] / theirs['positions']:.4f}",
        ]
        speed = f"{positions / np.median([mine[0] for mine, _ in pairs]):,.0f}"
        yield ["capture, in turns with it", "", f"{positions:,}", speed, "", "", f"{-nats / positions:.4f}"]


def check_same(name: str, theirs: dict[str, float], positions: int, nats: float) -> None:
    """Refuse a comparison of different work. Other tools sum over ids that belong to no token: a thousandth at most."""
    if theirs["positions"] != positions or abs(theirs["nats"] - nats) > 1e-3 * abs(nats):
        raise RuntimeError(f"{name} scored {theirs}, capture {positions} positions with {nats} nats")
