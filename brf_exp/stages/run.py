"""Stage `run`: capture, both tests, audit, claims and report for one pair, in one folder."""

import os
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brf_exp.config import AuditStageConfig, RunStageConfig
from brf_exp.stages import progress
from brf_exp.stages.audit import audit_of
from brf_exp.stages.claims import claims_of
from brf_exp.stages.coherence import analysis_identity, coherence_of
from brf_exp.stages.discriminate import discrimination_of
from brf_exp.stages.finish import is_done
from brf_exp.stages.ledger import freeze
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.stages.recapture import recaptured
from brf_exp.stages.report import report_of
from brf_exp.storage.runs import (
    CONFIG,
    MANIFEST,
    RESULTS,
    content_key,
    manifest,
    read_json,
    stage_folder,
    write_config,
    write_json,
)

RUN_SCHEMA = 1


def run(config: RunStageConfig) -> Path:
    """Do the main job; the run's folder. What is there already is not done again."""
    seconds: dict[str, float] = {}
    with progress.steps("run", 6, enabled=config.progress) as step:
        step("capture")
        inputs = _timed(seconds, "capture", lambda: resolve_pair(config))
        again = _timed(seconds, "recapture", lambda: recaptured(config, inputs))
        determines = {
            "schema": RUN_SCHEMA,
            **analysis_identity(config, inputs),
            "delta": config.claims.delta,
            "recapture": again.identity(),
        }
        key = content_key(determines)
        folder = stage_folder(Path(config.runs_dir), "run", inputs.name, key)
        folder.mkdir(parents=True, exist_ok=True)
        ledger = freeze(folder, config.claims.ledger)
        stages: dict[str, Callable[[], Path]] = {
            "coherence": lambda: coherence_of(config, inputs, folder / "coherence"),
            "discriminate": lambda: discrimination_of(config, inputs, again, folder / "discriminate"),
            "audit": lambda: audit_of(AuditStageConfig(runs_dir=config.runs_dir, seed=config.seed), folder / "audit"),
            "claims": lambda: claims_of(folder, config.claims.ledger),
        }
        for name, make in stages.items():
            step(name)
            _timed(seconds, name, make)
        if not is_done(folder, key):
            write_config(folder / CONFIG, config)
            write_json(folder / RESULTS, _results(inputs, folder, list(stages)))
            described = manifest(stage="run", key=key, determines=determines, ledger_sha256=ledger)
            described["environment"]["seconds"] = seconds
            write_json(folder / MANIFEST, described)
        step("report")
        report_of(folder, progress=config.progress)
    return folder


def _timed(seconds: dict[str, float], name: str, make: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    made = make()
    seconds[name] = round(time.perf_counter() - started, 2)
    return made


def _results(inputs: PairInputs, folder: Path, stages: list[str]) -> dict[str, Any]:
    """What the run measured, in one place: a verdict per claim and where everything lies."""
    claims = read_json(folder / "claims" / RESULTS)["claims"]
    names = [*string.ascii_lowercase, *(f"model{place + 1}" for place in range(26, len(inputs.captures)))]
    members = dict(zip(names, inputs.captures, strict=False))
    if inputs.proxy is not None:
        members["proxy"] = inputs.proxy
    return {
        "schema": RUN_SCHEMA,
        "stage": "run",
        "pair": inputs.name,
        "corpus": inputs.corpus_name,
        "models": [capture.model_name for capture in inputs.captures],
        "proxy": inputs.proxy.model_name if inputs.proxy else None,
        "n_positions": inputs.captures[0].n_rows,
        "n_documents": len(inputs.documents.doc_ids),
        "stages": {name: name for name in [*stages, "report"]},
        "captures": {name: _relative(c.folder, folder) for name, c in members.items()},
        "verdicts": {claim["id"]: claim["verdict"] for claim in claims},
        "robust": {claim["id"]: claim["robust"] for claim in claims},
    }


def _relative(path: Path, start: Path) -> str:
    """Path from the run's folder, so that a runs folder can be moved."""
    return Path(os.path.relpath(path, start)).as_posix()
