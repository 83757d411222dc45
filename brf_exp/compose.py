"""Hydra's part: compose a stage's settings, turn them into its dataclass, run it once or as a sweep."""

import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brf_exp.checks import check
from brf_exp.config import STAGES, StageConfig
from brf_exp.errors import BrfError, ConfigError, MissingInputError
from brf_exp.overrides import Request, quoted
from brf_exp.paths import conf_dir
from brf_exp.settings import require_known_tree, settings_of

STATUS = "status.json"
MODEL_PACKAGES = ("datasets", "safetensors", "tokenizers", "torch", "transformers")
_RAISE = "HYDRA_FULL_ERROR"
# Hydra composes and launches; it writes no folder, log or copy of its own for a single run.
_QUIET = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
)


def launch(request: Request) -> int:
    """Run a request; returns the exit code. Errors before any job starts are raised."""
    store = ConfigStore.instance()
    store.store(name=f"{request.stage}_schema", node=STAGES[request.stage])
    for (group, name), values in request.options.items():
        store.store(group=group, name=name, node=values)
    return _launch_sweep(request) if request.sweep else _launch_once(request)


def to_config(composed: DictConfig, stage: str) -> StageConfig:
    """The stage's dataclass from what Hydra composed; unknown keys and unusable values raise ConfigError."""
    schema = STAGES[stage]
    try:
        plain = OmegaConf.to_container(composed)
        assert isinstance(plain, dict)
        require_known_tree(schema, plain, stage=stage)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), composed))
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error, stage)) from error
    assert isinstance(config, StageConfig)
    config.runs_dir = str(Path(config.runs_dir).expanduser().absolute())
    check(config)
    return config


def run_stage(composed: DictConfig, stage: str) -> Path:
    """Run one stage on composed settings; the folder or file it made."""
    config = to_config(composed, stage)
    try:
        made: Path = importlib.import_module(f"brf_exp.stages.{stage.replace('-', '_')}").run(config)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in MODEL_PACKAGES:
            raise
        raise MissingInputError(
            f"`{stage}` must have the package {error.name}, got none. Install it with `pip install 'brf-exp[models]'`."
        ) from error
    return made


def _launch_once(request: Request) -> int:
    outcome: list[Path | Exception] = []

    def job(composed: DictConfig) -> None:
        try:
            outcome.append(run_stage(composed, request.stage))
        except Exception as error:  # carried past Hydra, which would print lines of its own
            outcome.append(error)

    _call_hydra(request, job, [])
    for made in outcome:
        if isinstance(made, Exception):
            raise made
        print(made.absolute(), flush=True)
    return 0


def _launch_sweep(request: Request) -> int:
    """Run every combination; each job leaves its exit code in a file, since launchers may use other processes."""
    stage = request.stage
    sweep_dir = _sweep_dir(request)
    is_new = not sweep_dir.exists()

    def job(composed: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        overrides = list(hydra_config.overrides.task)
        code, message = _run_reporting(composed, stage, overrides)
        status = {"overrides": overrides, "exit_code": code, "message": message}
        folder = Path(hydra_config.runtime.output_dir)
        (folder / STATUS).write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")

    for old in sweep_dir.glob(f"*/{STATUS}"):
        old.unlink()
    try:
        _call_hydra(request, job, [f"hydra.sweep.dir={quoted(str(sweep_dir))}", "hydra.sweep.subdir=${hydra:job.num}"])
    except ConfigError:
        if is_new:
            shutil.rmtree(sweep_dir, ignore_errors=True)
        raise
    codes = [json.loads(path.read_text(encoding="utf-8"))["exit_code"] for path in sweep_dir.glob(f"*/{STATUS}")]
    return 1 if 1 in codes else max(codes, default=0)


def _run_reporting(composed: DictConfig, stage: str, overrides: list[str]) -> tuple[int, str]:
    """Run one job of a sweep, say at once how it went, and go on."""
    try:
        made = run_stage(composed, stage).absolute()
    except BrfError as error:
        message = " ".join(str(error).splitlines())
        print(f"brf-exp: [{', '.join(overrides)}] {message}", file=sys.stderr, flush=True)
        return 2, message
    except Exception as error:
        print(f"brf-exp: [{', '.join(overrides)}] failed:", file=sys.stderr)
        traceback.print_exc()
        return 1, repr(error)
    print(made, flush=True)
    return 0, str(made)


def _sweep_dir(request: Request) -> Path:
    key = hashlib.sha256("\0".join(sorted(request.overrides)).encode()).hexdigest()[:8]
    return request.runs_dir / "sweeps" / f"{request.stage}-{key}"


def _call_hydra(request: Request, job: Callable[[DictConfig], None], more: list[str]) -> None:
    """hydra.main over the request's own arguments; what Hydra refuses becomes a ConfigError."""
    decorate = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=request.stage)
    with _as_command([*request.flags, *_QUIET, *more, *request.overrides]):
        try:
            decorate(job)()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_one_line(error, request.stage)) from error


@contextlib.contextmanager
def _as_command(arguments: list[str]) -> Iterator[None]:
    """What hydra.main reads: the arguments, and to raise its errors where it would print them and exit."""
    kept = sys.argv, os.environ.get(_RAISE)
    sys.argv, os.environ[_RAISE] = ["brf-exp", *arguments], "1"
    try:
        yield
    finally:
        sys.argv = kept[0]
        if kept[1] is None:
            del os.environ[_RAISE]
        else:
            os.environ[_RAISE] = kept[1]


def _one_line(error: BaseException, stage: str) -> str:
    """What Hydra or OmegaConf found wrong, in this project's words where the setting is known."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    for found in causes:
        setting = settings_of(STAGES[stage]).get(str(getattr(found, "full_key", None)))
        value = re.search(r"[Vv]alue '(.*?)'", str(found))
        if setting is not None and value is not None:
            return f"`{setting.key}` must be {setting.requirement}, got {value[1]!r}."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__
