"""Hydra's part of a sweep: every combination composed once here, launched by whichever launcher is chosen."""

import contextlib
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from brf_exp.compose import call_hydra, run_stage, store_options, to_config
from brf_exp.errors import BrfError, MissingInputError
from brf_exp.overrides import Request, quoted, read_more
from brf_exp.sweeps.jobs import Job, perform
from brf_exp.sweeps.keys import content_hash, job_key
from brf_exp.sweeps.run import Launcher, Sweep

_BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_LAUNCHERS = {
    "BasicLauncher": Launcher.BASIC,
    "JoblibLauncher": Launcher.JOBLIB,
    "LocalLauncher": Launcher.SUBMITIT_LOCAL,
    "SlurmLauncher": Launcher.SLURM,
}
_PACKAGES = {
    "joblib": "joblib",
    "local": "submitit",
    "slurm": "submitit",
    "submitit_local": "submitit",
    "submitit_slurm": "submitit",
}
_VISIBLE_GPUS, _SUBMITTER_GPUS = "CUDA_VISIBLE_DEVICES", "BRF_EXP_CUDA_VISIBLE_DEVICES"
# Bars of several jobs would write over each other.
_QUIET = "progress=false"


@dataclass
class _Order:
    """A request on its way through Hydra, and the sweep that comes back; none where Hydra only printed settings."""

    request: Request
    split: Callable[[list[Override], int | None], list[list[list[str]]]]
    sweep: Sweep | None = None


_ORDER: ContextVar[_Order] = ContextVar("_ORDER")


def launch_sweep(request: Request) -> int:
    """Run every combination that is not done yet; returns the exit code. Errors before any job starts are raised."""
    _require_launcher(request)
    stage = request.stage

    def job(composed: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        _restore_gpus(hydra_config.launcher)
        folder = Path(hydra_config.runtime.output_dir)
        overrides = [override for override in hydra_config.overrides.task if override != _QUIET]
        perform(folder, stage, overrides, lambda: run_stage(composed, stage))

    os.environ[_SUBMITTER_GPUS] = os.environ.get(_VISIBLE_GPUS, "all")
    try:
        with _planned_sweeps(request) as order:
            call_hydra(request, job, [f"hydra.sweep.dir={quoted(str(_sweep_dir(request)))}"])
        return order.sweep.run() if order.sweep is not None else 0
    finally:
        del os.environ[_SUBMITTER_GPUS]


class PlannedSweeper(Sweeper):
    """Combinations as Hydra's basic sweeper makes them; the launching and what comes after are `Sweep`'s."""

    def __init__(self, max_batch_size: int | None, params: DictConfig | None = None) -> None:
        self.max_batch_size = max_batch_size
        self.params = params or OmegaConf.create({})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self._loader = hydra_context.config_loader
        self._config = config
        self._launcher: HydraLauncher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Plan the combinations of what was typed and of what an experiment file sets."""
        order = _ORDER.get()
        typed = [*self._from_file(order.request), *arguments]
        parsed = OverridesParser.create(config_loader=self._loader).parse_overrides(typed)
        [combinations] = order.split(parsed, None)
        submitit = OmegaConf.select(self._config, "hydra.launcher.submitit_folder")
        order.sweep = Sweep(
            stage=order.request.stage,
            folder=Path(self._config.hydra.sweep.dir),
            jobs=self._jobs(order.request, combinations),
            launcher=_LAUNCHERS.get(type(self._launcher).__name__, Launcher.OTHER),
            launch=self._launch,
            max_batch_size=self.max_batch_size,
            submitit_dir=None if submitit is None else Path(re.split(r"/?%", submitit)[0]),
        )

    def _from_file(self, request: Request) -> list[str]:
        """`hydra.sweeper.params` of an experiment file, read as if typed."""
        params = OmegaConf.to_container(self.params)
        assert isinstance(params, dict)
        joined = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in params.items()}
        read = read_more(request, [f"{key!s}={value}" for key, value in joined.items()])
        store_options(request)
        return read

    def _jobs(self, request: Request, combinations: list[list[str]]) -> list[Job]:
        """One job for every different outcome of composing."""
        folder, found = Path(self._config.hydra.sweep.dir), dict[str, Job]()
        for number, (overrides, label) in enumerate(
            zip(combinations, _labels(request, combinations), strict=True), start=1
        ):
            key, refused = self._key(request, overrides)
            found.setdefault(
                key, Job(number, request.stage, overrides, label, key=key, folder=folder / key, refused=refused)
            )
        return list(found.values())

    def _key(self, request: Request, overrides: Sequence[str]) -> tuple[str, str | None]:
        """The hash of what determines a job's result, and what is wrong with its settings."""
        composed = self._loader.load_sweep_config(self._config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        try:
            config, refused = to_config(composed, request.stage), None
        except BrfError as error:
            return content_hash(list(overrides)), " ".join(str(error).splitlines())
        return job_key(config, stage=request.stage, runs_dir=request.runs_dir), refused

    def _launch(self, batch: list[Job]) -> None:
        """Launch jobs; each finds its own folder through `hydra.sweep.subdir`."""
        alone = _LAUNCHERS.get(type(self._launcher).__name__) is Launcher.BASIC
        quiet = [] if alone else [_QUIET]
        self._launcher.launch([[*quiet, *job.overrides, f"hydra.sweep.subdir={job.key}"] for job in batch], 0)


def _labels(request: Request, combinations: list[list[str]]) -> list[str]:
    """What is different about each combination, as it was typed."""
    shared = set.intersection(*map(set, combinations)) if len(combinations) > 1 else set()
    stored = {f"{group}={name}": values for (group, name), values in request.options.items()}

    def shown(override: str) -> str:
        path = stored.get(override, {}).get("path")
        key, _, value = override.partition("=")
        return f"{key}={path}" if path else f"{key}={value.strip(chr(39))}"

    return [" ".join(shown(o) for o in overrides if o not in shared) for overrides in combinations]


def _require_launcher(request: Request) -> None:
    """A launcher that is not installed would be one of Hydra's longer messages."""
    for override in request.overrides:
        key, _, name = override.partition("=")
        package = _PACKAGES.get(name) if key == "hydra/launcher" else None
        if package is not None and importlib.util.find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
            raise MissingInputError(
                f"`hydra/launcher` must have its package installed for {name}, got none. "
                "Install it with `pip install 'brf-exp[sweeps]'`."
            )


def _sweep_dir(request: Request) -> Path:
    """The folder of a sweep: the same for the same command, wherever it runs and however it is launched."""
    how = r"hydra[./]launcher(\.[^=]*)?|hydra\.sweeper\.max_batch_size|progress|runs_dir"
    where = re.compile(rf"\+{{0,2}}({how})=", re.DOTALL)
    what = sorted(override for override in request.overrides if not where.match(override))
    return request.runs_dir / "sweeps" / f"{request.stage}-{hashlib.sha256(chr(0).join(what).encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def _planned_sweeps(request: Request) -> Iterator[_Order]:
    """PlannedSweeper wherever Hydra would take its basic one."""
    known = Plugins.instance().class_name_to_class
    basic: Any = known[_BASIC]
    order = _Order(request, basic.split_arguments)
    token = _ORDER.set(order)
    known[_BASIC] = PlannedSweeper
    try:
        yield order
    finally:
        known[_BASIC] = basic
        _ORDER.reset(token)


def _restore_gpus(launcher: DictConfig) -> None:
    """submitit_local hides every GPU from jobs that ask for none; here such a job sees what its submitter saw."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "local" or OmegaConf.select(launcher, "gpus_per_node") is not None:
        return
    visible = os.environ.get(_SUBMITTER_GPUS, "all")
    if visible == "all":
        os.environ.pop(_VISIBLE_GPUS, None)
    else:
        os.environ[_VISIBLE_GPUS] = visible
