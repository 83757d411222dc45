"""Stage `audit`: which structural properties every fusion rule has, computed on random distributions."""

from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import AuditStageConfig
from brf_exp.maths.audit import AUDITED, RuleAudit, SettingAudit, audit_rule
from brf_exp.maths.audit_cases import audit_cases
from brf_exp.maths.audit_identities import identities
from brf_exp.maths.audit_properties import PROPERTIES
from brf_exp.maths.rules import RULES
from brf_exp.stages.finish import once
from brf_exp.stages.prior_systems import records
from brf_exp.storage.runs import content_key, stage_folder

AUDIT_SCHEMA = 1
# Counts what is asked and of what; earlier results are made anew.
AUDIT_REVISION = 2
# Three models take longer per position: one triple for so many pairs.
PAIRS_PER_TRIPLE = 4


def run(config: AuditStageConfig) -> Path:
    """Run the stage; the folder of its results."""
    return audit_of(config)


def audit_of(config: AuditStageConfig, folder: Path | None = None) -> Path:
    """Audit every rule; `folder` overrides where the results go."""
    determines = {
        "schema": AUDIT_SCHEMA,
        "revision": AUDIT_REVISION,
        "prior_systems": content_key(records()),
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
    n_triples = max(config.n_distributions // PAIRS_PER_TRIPLE, 1)
    cases = audit_cases(config.n_distributions, config.vocabulary_size, rng, n_triples=n_triples)
    found = identities(cases[2][-1].forecasts, cases[3][-1].forecasts)
    return {
        "schema": AUDIT_SCHEMA,
        "stage": "audit",
        "n_distributions": config.n_distributions,
        "n_triples": n_triples,
        "n_small": {str(n_models): [len(c.likelihood) for c in made[:-1]] for n_models, made in cases.items()},
        "vocabulary_size": config.vocabulary_size,
        "properties": {prop.name: prop.statement for prop in PROPERTIES},
        "rules": {name: _rule_record(name, audit_rule(name, cases)) for name in AUDITED},
        "identities": {
            name: {
                "statement": i.statement,
                "max_error": i.max_error,
                "median_error": i.median_error,
                "holds": i.holds,
            }
            for name, i in found.items()
        },
        "prior_systems": records(),
    }


def _rule_record(name: str, made: RuleAudit) -> dict[str, Any]:
    """A rule's properties over all its settings, and each setting with its examples."""
    rule = RULES[name]
    return {
        "formula": rule.formula,
        "source": rule.source,
        "properties": made.properties,
        "depends": made.depends,
        "worst": made.worst,
        "settings": [_setting_record(setting) for setting in made.settings],
    }


def _setting_record(made: SettingAudit) -> dict[str, Any]:
    setting = made.setting
    return {
        "label": setting.label,
        "parameters": setting.parameters,
        "phases": setting.phases,
        "confidence": setting.confidence,
        "n_models": made.n_models,
        "properties": made.properties,
        "worst": made.worst,
        "witnesses": made.witnesses,
        "n_asked": made.n_asked,
    }
