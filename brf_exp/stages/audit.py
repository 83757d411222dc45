"""Stage `audit`: which structural properties every fusion rule has, computed on random distributions."""

from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import AuditStageConfig
from brf_exp.maths.audit import AUDITED, audit_rule, draw_sample, identities
from brf_exp.maths.fusion import RULES
from brf_exp.stages.finish import once
from brf_exp.storage.runs import content_key, stage_folder

AUDIT_SCHEMA = 1


def run(config: AuditStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    return audit_of(config)


def audit_of(config: AuditStageConfig, folder: Path | None = None) -> Path:
    """Audit every rule; `folder` overrides where the results go."""
    determines = {
        "schema": AUDIT_SCHEMA,
        "n_distributions": config.n_distributions,
        "vocabulary_size": config.vocabulary_size,
        "seed": config.seed,
    }
    final = folder or stage_folder(Path(config.runs_dir), "audit", "rules", content_key(determines))
    return once(
        final,
        stage="audit",
        subject="random distributions",
        determines=determines,
        config=config,
        make=lambda: (_audit(config), {}),
    )


def _audit(config: AuditStageConfig) -> dict[str, Any]:
    rng = np.random.default_rng([config.seed, 121])
    sample = draw_sample(config.n_distributions, config.vocabulary_size, rng)
    rules = {}
    for name in AUDITED:
        made = audit_rule(name, sample, rng)
        rule = RULES[name]
        rules[name] = {
            "formula": rule.formula,
            "source": rule.source,
            "properties": made.properties,
            "worst": made.worst,
        }
    found = identities(sample)
    return {
        "schema": AUDIT_SCHEMA,
        "stage": "audit",
        "n_distributions": config.n_distributions,
        "vocabulary_size": config.vocabulary_size,
        "rules": rules,
        "identities": {
            name: {"statement": i.statement, "max_error": i.max_error, "holds": i.holds} for name, i in found.items()
        },
    }
