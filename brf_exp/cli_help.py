"""The texts of `brf-exp`, `--version` and `<stage> --help`, printed without Hydra, numpy or torch."""

from pathlib import Path

import brf_exp
from brf_exp.config import STAGES
from brf_exp.paths import conf_dir
from brf_exp.settings import groups_of, settings_of, shown
from brf_exp.submission.registry import check_lines

_EXAMPLES = {
    "run": [
        "brf-exp run",
        "brf-exp run pair=hf pair.a=PATH pair.b=PATH proxy=PATH corpus=texts.jsonl",
        "brf-exp run pair=tiny capture.mode=generation",
        "brf-exp run -m pair=gpt2-distilgpt2,pythia-70m-160m phase=arctan,tanh",
    ],
    "capture": [
        "brf-exp capture model=tiny_prose",
        "brf-exp capture model=hf model.id=PATH corpus=texts.jsonl capture.k=50",
        "brf-exp capture model=tiny_prose capture.mode=generation generation.temperature=0.7",
    ],
    "ingest": [
        "brf-exp ingest submission=PATH",
        "brf-exp ingest submission=PATH report=problems.json",
        "brf-exp coherence pair=NAME",
    ],
    "coherence": ["brf-exp coherence pair=tiny", "brf-exp coherence captures=[PATH,PATH] phase=tanh phase.scale=1.5"],
    "discriminate": ["brf-exp discriminate pair=tiny", "brf-exp discriminate captures=[PATH,PATH]"],
    "audit": ["brf-exp audit", "brf-exp audit n_distributions=10000"],
    "claims": ["brf-exp claims run=PATH"],
    "report": ["brf-exp report run=PATH"],
    "collect": ["brf-exp collect", "brf-exp collect runs='runs/run/*' name=first-look", "brf-exp collect runs=SWEEP"],
    "train": ["brf-exp train model=tiny_prose", "brf-exp train model=tiny_bytes train.tokens=100000 out=PATH"],
    "extract-script": ["brf-exp extract-script", "brf-exp extract-script out=PATH"],
    "submit-template": ["brf-exp submit-template", "brf-exp submit-template out=FOLDER"],
}


def version() -> str:
    """`brf-exp <version>`."""
    return f"brf-exp {brf_exp.__version__}"


def stage_list() -> str:
    """Every stage with the first line of its docstring."""
    lines = [f"  {name:<17}{_summary(name)}" for name in STAGES]
    return "\n".join(
        [
            "Usage: brf-exp <stage> [key=value ...]",
            "",
            *lines,
            "",
            "brf-exp <stage> --help lists its settings; -m runs every combination of comma-separated values.",
            "Start with `brf-exp run`.",
        ]
    )


def stage_help(stage: str) -> str:
    """Usage, examples, options and settings of one stage."""
    return "\n".join(
        [
            _summary(stage),
            "",
            f"Usage: brf-exp {stage} [key=value ...]",
            "       -m, --multirun      every combination of comma-separated values; what is done is not done again",
            "                           hydra/launcher=joblib: on all cores; hydra/launcher=slurm: on a cluster",
            "       --config-dir DIR    a folder of your own YAML options",
            "       --cfg job           print the settings that would be used",
            "",
            "Examples:",
            *(f"  {line}" for line in _EXAMPLES[stage]),
            *_choice_lines(stage),
            "",
            "Settings and defaults (a chosen option may set others; --cfg job shows the outcome):",
            *_setting_lines(stage),
            *(_check_lines() if stage == "ingest" else []),
        ]
    )


def options_of(group: str, folders: list[Path]) -> dict[str, str]:
    """Names of the YAML options of a group, with the comment of their first line."""
    files = sorted(path for folder in folders for path in (folder / group).glob("*.yaml"))
    return {path.stem: _first_comment(path) for path in files}


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
        if not line.startswith("#"):
            break
    return ""


def _choice_lines(stage: str) -> list[str]:
    lines = []
    groups = groups_of(STAGES[stage])
    for group in [*groups, *(["device"] if "capture" in groups else [])]:
        options = options_of(group, [conf_dir()])
        lines += [f"  {group}={name:<24} {comment}".rstrip() for name, comment in options.items()]
    return ["", "Options:", *lines] if lines else []


def _setting_lines(stage: str) -> list[str]:
    settings = settings_of(STAGES[stage]).values()
    width = max(len(f"{s.key}={shown(s.default)}") for s in settings)
    return [f"  {f'{s.key}={shown(s.default)}':<{width}}  {s.comment}".rstrip() for s in settings]


def _check_lines() -> list[str]:
    """What a submission goes through."""
    return ["", "Checks (an error rejects the submission, a warning does not):", *check_lines()]


def _summary(stage: str) -> str:
    return (STAGES[stage].__doc__ or "").strip().splitlines()[0]
