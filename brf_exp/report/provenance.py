"""Where a run's numbers come from, and the commands that make them again."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from brf_exp.config import CaptureConfig, CorpusConfig, EvaluationConfig, GenerationConfig, RecaptureConfig
from brf_exp.report.load import Run
from brf_exp.storage.captures import MANIFEST as CAPTURE_MANIFEST

PROXY = "proxy"


@dataclass(frozen=True)
class Source:
    """One model's capture as its manifest describes it: label and value, what is not recorded left out."""

    role: str
    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class StageRecord:
    """One stage's manifest in a line."""

    stage: str
    key: str
    seed: str
    commit: str
    finished: str
    seconds: float | None


def sources(run: Run) -> list[Source]:
    """Models, corpora and captures, in the order a, b, ..., proxy."""
    return [_source(role, manifest) for role, manifest in _capture_manifests(run).items()]


def stage_records(run: Run) -> list[StageRecord]:
    """One line per stage that left a manifest."""
    seconds = run.manifests.get("run", {}).get("environment", {}).get("seconds", {})
    return [_record(stage, manifest, seconds.get(stage)) for stage, manifest in run.manifests.items()]


def packages(run: Run) -> dict[str, str]:
    """Versions of the packages that computed the tests."""
    for name in ("coherence", "discriminate", "run"):
        found = run.manifests.get(name, {}).get("packages")
        if found:
            return {str(package): str(version) for package, version in found.items()}
    return {}


def commands(run: Run) -> list[str]:
    """Command lines that make this run again, as far as its manifests tell."""
    captured = _capture_manifests(run)
    first = captured.get("a", {})
    pair = str(run.measured["pair"])
    lines = []
    if first.get("mode") == "submission":
        lines.append("brf-exp ingest submission=PATH")
    overrides = [*_pair(pair, run.measured["models"], captured), *_no_proxy(run), *_settings(run), *_recapture(run)]
    if first and first.get("mode") != "submission":
        overrides += _differing(CorpusConfig(), first.get("corpus", {}), "corpus")
        overrides += _differing(CaptureConfig(), first.get("determines", {}).get("capture", {}), "capture")
        overrides += _generation(captured)
    lines.append(shlex.join(["brf-exp", "run", *overrides]))
    lines.append(shlex.join(["brf-exp", "report", f"run=runs/run/{run.folder.name}"]))
    return lines


def _capture_manifests(run: Run) -> dict[str, dict[str, Any]]:
    """capture.json by role, of the captures that are still there."""
    found = {}
    for role in sorted(run.captures, key=lambda role: (role == PROXY, len(role), role)):
        path = run.captures[role] / CAPTURE_MANIFEST
        found[role] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _source(role: str, manifest: dict[str, Any]) -> Source:
    model, corpus, environment = (manifest.get(name) or {} for name in ("model", "corpus", "environment"))
    dtype = manifest.get("dtype")
    parts = manifest.get("parts") or []
    facts = {
        "revision": model.get("revision"),
        "weights SHA-256": model.get("weights_sha256"),
        "vocabulary": model.get("vocabulary_size"),
        "tokenizer": manifest.get("tokenizer_fingerprint"),
        "corpus": corpus.get("name"),
        "corpus fingerprint": corpus.get("fingerprint"),
        "condition": manifest.get("condition"),
        "mode": str(manifest.get("mode", "")).replace("_", " "),
        "tokens written by": _author(manifest.get("generation")),
        "logits kept (k)": manifest.get("k"),
        "number type": dtype.get("forward") if isinstance(dtype, dict) else dtype,
        "rows, documents": f"{manifest.get('rows')}, {manifest.get('documents')}",
        "part SHA-256": ", ".join(str(part.get("sha256")) for part in parts),
        "device": environment.get("device"),
        "finished": environment.get("finished"),
    }
    kept = tuple((label, str(value)) for label, value in facts.items() if value not in (None, ""))
    label = role if len(role) > 1 else f"model {role}"
    return Source("difficulty proxy" if role == PROXY else label, str(model.get("name", "unnamed")), kept)


def _record(stage: str, manifest: dict[str, Any], seconds: float | None) -> StageRecord:
    environment = manifest.get("environment") or {}
    commit = environment.get("git_commit")
    dirty = " with uncommitted changes" if environment.get("git_dirty") else ""
    seed = (manifest.get("determines") or {}).get("seed")
    return StageRecord(
        stage=stage,
        key=str(manifest.get("key", "")),
        seed="" if seed is None else str(seed),
        commit=f"{commit[:12]}{dirty}" if commit else "installed package",
        finished=str(environment.get("finished", "")),
        seconds=seconds,
    )


def _pair(pair: str, models: list[str], captured: dict[str, dict[str, Any]]) -> list[str]:
    """A named pair, or the two models themselves where the pair had no name of its own."""
    if pair != "-".join(models):
        return [f"pair={pair}"]
    ids = {role: manifest.get("model", {}).get("id") for role, manifest in captured.items()}
    named = [str(ids.get(chr(ord("a") + place)) or name) for place, name in enumerate(models)]
    members = [f"pair.{role}={name}" for role, name in zip("ab", named, strict=False)]
    others = [f"pair.others=[{','.join(named[2:])}]"] if named[2:] else []
    return ["pair=hf", *members, *others, *([f"proxy={ids[PROXY]}"] if ids.get(PROXY) else [])]


def _no_proxy(run: Run) -> list[str]:
    """proxy=none where nothing told how hard tokens are, so that nothing is found for it next time."""
    found = run.coherence
    if found is None or len(found["models"]) > 2 or found["proxy"] or run.summary.get(PROXY):
        return []
    return ["proxy=none"] if found.get("aligned_share") is None else []


def _settings(run: Run) -> Iterator[str]:
    """Overrides that differ from the defaults: phase map, evaluation, delta, seed."""
    stage = "coherence" if "coherence" in run.manifests else "discriminate"
    determines = run.manifests.get(stage, {}).get("determines") or {}
    phase = determines.get("phase") or {}
    yield f"phase={phase.get('name', run.measured['primary'])}"
    if phase.get("table") is not None:
        yield "phase.table=FILE.csv"
    if phase.get("scale") is not None:
        yield f"phase.scale={phase['scale']:g}"
    scope = (run.discrimination or {}).get("phase_scope", "position")
    if scope != "position":
        yield f"phase.scope={scope}"
    yield from _differing(EvaluationConfig(), determines.get("evaluation") or {}, "evaluation")
    if determines.get("delta", 0.05) != 0.05:
        yield f"claims.delta={determines['delta']:g}"
    if determines.get("seed"):
        yield f"seed={determines['seed']}"


def _recapture(run: Run) -> Iterator[str]:
    """Overrides for the second capture, which the noise floor is measured with."""
    found = run.discrimination or {}
    if found.get("noise_floor_reason") == "recapture.enabled is false":
        yield "recapture.enabled=false"
    dtype = (found.get("noise_floor") or {}).get("dtype")
    if dtype not in (None, RecaptureConfig().dtype):
        yield f"recapture.dtype={dtype}"


def _generation(captured: dict[str, dict[str, Any]]) -> list[str]:
    """Overrides of how the texts were continued, where they were."""
    described = captured["a"].get("generation")
    if described is None:
        return []
    made = _differing(GenerationConfig(), described["settings"], "generation")
    authors = [role for role in ("a", "b") if captured.get(role, {}).get("mode") == "generation"]
    if not authors:
        return [*made, "generation.tokens_of=PATH"]
    return [*made, *(["generation.by=b"] if authors == ["b"] else [])]


def _author(described: dict[str, Any] | None) -> str | None:
    """Who wrote the tokens, and how they were sampled."""
    if described is None:
        return None
    settings = [f"{name} {value}" for name, value in described["settings"].items() if value is not None]
    return f"{described['by']} ({', '.join(settings)}, seed {described['seed']})"


def _differing(defaults: Any, found: dict[str, Any], group: str) -> list[str]:
    """group.field=value for every recorded field that is not the default."""
    made = []
    for field in fields(defaults):
        value = found.get(field.name, getattr(defaults, field.name))
        if value == getattr(defaults, field.name) or value is None:
            continue
        name = group if field.name == "name" else f"{group}.{field.name}"
        made.append(f"{name}={str(value).lower() if isinstance(value, bool) else value}")
    return made
