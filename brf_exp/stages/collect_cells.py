"""A run's row of the table: its numbers and words, each with the type of its column."""

from pathlib import Path
from typing import Any

from brf_exp.stages import collect_pvalues as pvalues
from brf_exp.stages.subject import SAMPLING

# Without them a run cannot be told from others.
IDENTITY = ("run", "pair", "models", "corpus", "condition", "phase_map", "phase_scope", "key")
COLUMNS: dict[str, type] = {
    "run": str, "folder": str, "pair": str, "models": str, "n_models": int, "corpus": str, "condition": str,
    "phase_map": str, "phase_scale_logits": float, "phase_scope": str, "seed": int, "k": int, "n_positions": int,
    "n_documents": int, "proxy": str, "delta_share": float, "delta_nats": float,
    "excess": float, "excess_low": float, "excess_high": float, "share": float, "share_low": float, "share_high": float,
    "coherence_pvalue": float, "residual_share": float, "residual_share_low": float, "residual_share_high": float,
    "negative_control_rate": float, "coherence_verdict": str, "coherence_reason": str, "coherence_robust": bool,
    "strongest_rival": str, "difference_nats": float, "difference_low_nats": float, "difference_high_nats": float,
    "difference_pvalue": float, "noise_floor_nats": float, "minimum_detectable_nats": float,
    "below_minimum_rate": float, "below_minimum_low": float, "below_minimum_high": float,
    "negative_cosine_share": float, "discrimination_verdict": str, "discrimination_reason": str,
    "discrimination_robust": bool, "key": str,
}  # fmt: skip


def _condition(tested: dict[str, Any] | None, config: dict[str, Any]) -> str:
    """What the models saw; of text that a model wrote, how it was sampled, for that makes it another text."""
    if tested is not None:
        condition, settings = str(tested["condition"]), tested["generated"]
    else:  # older results: as the settings have it
        condition = str(config.get("condition", "none"))
        is_read = (config.get("capture") or {}).get("mode", "teacher_forced") == "teacher_forced"
        settings = None if is_read else config.get("generation") or {}
    if settings is None:
        return condition
    sampled = [f"{name} {settings[name]}" for name in SAMPLING if settings.get(name) is not None]
    return ", ".join(["generated", *sampled, *([condition] if condition != "none" else [])])


def cells_of(
    folder: Path,
    manifest: dict[str, Any],
    coherence: dict[str, Any] | None,
    discrimination: dict[str, Any] | None,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Every column of a run, None where it has no such number; TypeError names a value of another type."""
    first = coherence or discrimination
    assert first is not None
    phase = config.get("phase") or (manifest.get("determines") or {}).get("phase") or {}
    found: dict[str, Any] = {
        "run": folder.name,
        "pair": first["pair"],
        "models": " | ".join(map(str, first["models"])),
        "n_models": len(first["models"]),
        "corpus": first["corpus"],
        "condition": _condition(first.get("tested"), config),
        "phase_map": first["primary"],
        "phase_scale_logits": phase.get("scale"),
        "phase_scope": phase.get("scope", "position"),
        "seed": (manifest.get("determines") or {}).get("seed"),
        "n_positions": first["n_positions"],
        "n_documents": first["n_documents"],
        "key": manifest["key"],
    }
    if coherence is not None:
        found |= _coherence_cells(coherence)
    if discrimination is not None:
        found |= _discrimination_cells(discrimination)
    checks = {name: present if name in IDENTITY else typed for name in COLUMNS}
    return {name: checks[name](found.get(name), kind, name) for name, kind in COLUMNS.items()}


def _coherence_cells(c: dict[str, Any]) -> dict[str, Any]:
    """The primary map; of more than two models that of their first pair, but for p-value and verdict."""
    made = c["phases"][c["primary"]]
    residual = made["residual"] or {}
    return {
        "proxy": c["proxy"],
        "delta_share": c["delta"],
        "excess": made["excess"],
        **_ends("excess", made["excess_interval"]),
        "share": made["excess_share"],
        **_ends("share", made["excess_share_interval"]),
        "coherence_pvalue": pvalues.dependence_pvalue(c),
        "residual_share": residual.get("excess_share"),
        **_ends("residual_share", residual.get("excess_share_interval")),
        "negative_control_rate": c["negative_control_rate"],
        "coherence_verdict": c["verdict"],
        "coherence_reason": c["reason"],
        "coherence_robust": c["robust"],
    }


def _discrimination_cells(d: dict[str, Any]) -> dict[str, Any]:
    rival = pvalues.strongest_rival(d)
    contrast = d["contrasts"][rival] if rival else {}
    low, high = contrast.get("interval") or (None, None)
    return {
        "k": d["k"],
        "delta_nats": d["delta_nats"],
        "strongest_rival": rival,
        "difference_nats": contrast.get("difference_nats"),
        "difference_low_nats": low,
        "difference_high_nats": high,
        "difference_pvalue": contrast.get("pvalue_adjusted"),
        "noise_floor_nats": contrast.get("noise_floor_nats"),
        "minimum_detectable_nats": d["minimum_detectable_nats"],
        "below_minimum_rate": d["below_minimum_rate"],
        **_ends("below_minimum", d["below_minimum_interval"]),
        "negative_cosine_share": (d.get("agreement") or {}).get("negative_share"),
        "discrimination_verdict": d["verdict"],
        "discrimination_reason": d["reason"],
        "discrimination_robust": d["robust"],
    }


def _ends(name: str, interval: list[float | None] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def typed(value: Any, kind: type, name: str) -> Any:
    """A value as its column's type; TypeError for what is something else. Half characters become question marks."""
    if value is None:
        return None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str):
        return _whole(value)
    if type(value) is not kind:
        raise TypeError(f"{name} is {value!r}")
    return value


def present(value: Any, kind: type, name: str) -> Any:
    """The same of what must not be null."""
    if value is None:
        raise TypeError(f"{name} is null")
    return typed(value, kind, name)


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
