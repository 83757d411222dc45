"""Hydra's part: compose a stage's settings, turn them into its dataclass, run it once or as a sweep."""

import contextlib
import importlib
import os
import re
import sys
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
from brf_exp.errors import ConfigError, MissingInputError
from brf_exp.overrides import Request
from brf_exp.paths import conf_dir
from brf_exp.settings import require_known_tree, settings_of

MODEL_PACKAGES = ("datasets", "safetensors", "tokenizers", "torch", "transformers")
_RAISE = "HYDRA_FULL_ERROR"
# Hydra composes and launches; it writes no folder, log or copy of its own for a single run.
_QUIET = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
)


def launch_once(request: Request) -> int:
    """Run a request that is no sweep; returns the exit code. Errors are raised."""
    outcome: list[Path | Exception] = []

    def job(composed: DictConfig) -> None:
        try:
            _refuse_sweep()
            outcome.append(run_stage(composed, request.stage))
        except Exception as error:  # carried past Hydra, which would print lines of its own
            outcome.append(error)

    call_hydra(request, job, ["hydra.mode=RUN"])
    for made in outcome:
        if isinstance(made, Exception):
            raise made
        print(made.absolute(), flush=True)
    return 0


def store_options(request: Request) -> None:
    """Tell Hydra the options that stand in no YAML file."""
    store = ConfigStore.instance()
    for (group, name), values in request.options.items():
        store.store(group=group, name=name, node=values)


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


def call_hydra(request: Request, job: Callable[[DictConfig], None], more: list[str]) -> None:
    """hydra.main over the request's own arguments; what Hydra refuses becomes a ConfigError."""
    ConfigStore.instance().store(name=f"{request.stage}_schema", node=STAGES[request.stage])
    store_options(request)
    decorate = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=request.stage)
    with _as_command([*request.flags, *_QUIET, *more, *request.overrides]):
        try:
            decorate(job)()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_one_line(error, request.stage)) from error


def _refuse_sweep() -> None:
    """An experiment file that is a sweep would be run as a single job, silently."""
    params = HydraConfig.get().sweeper.get("params")
    if params:
        names = ", ".join(sorted(params))
        raise ConfigError(f"`-m` must be given for an experiment that is a sweep (over {names}), got a single run.")


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
    # Where Hydra looked is of no use to whoever mistyped a name.
    told = str(error).partition("Config search path")[0]
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__
