"""One run folder as one record: its numbers with their types, and every claim with its verdict and p-values."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from brf_exp.maths.decisions import NOT_TESTED
from brf_exp.stages import collect_pvalues as pvalues
from brf_exp.stages.collect_cells import cells_of, present, typed
from brf_exp.stages.collect_subjects import Links, links_of
from brf_exp.stages.ledger import FROZEN, Claim
from brf_exp.storage.runs import CONFIG, MANIFEST, RESULTS, content_key

SCHEMA = 1
VOLATILE = ("environment", "packages")
READ = (RESULTS, CONFIG, FROZEN, *(f"{stage}/{RESULTS}" for stage in ("coherence", "discriminate", "claims")))


class NotCollectedError(Exception):
    """Why a folder cannot be read as a run."""


@dataclass(frozen=True)
class ClaimRecord:
    """One claim in one run. `supported` and `falsified` are p-values, None where the claim has none here."""

    id: str
    test: str
    statement: str
    verdict: str
    reason: str
    robust: bool | None
    supported: float | None = None
    falsified: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run: `subject` is what it tests (models, texts, condition); `order` places it among runs of one subject.

    `links` tie it to other runs of its subject, which is known only when all runs are: it is empty until then;
    `covers`: keys of the run and of the tests in it, which may lie elsewhere too; `content`: hash of all that was read;
    `floors`: the smallest p-value that a counted test can give, by question.
    """

    folder: Path
    covers: tuple[str, ...]
    content: str
    links: Links
    order: tuple[Any, ...]
    cells: dict[str, Any]
    claims: tuple[ClaimRecord, ...]
    floors: dict[str, float | None]
    ledger: str | None
    subject: str = field(default="")


def read_run(folder: Path, shipped: dict[str, Claim], *, map_name: str) -> RunRecord:
    """Read a run folder, or the folder of one test alone; NotCollectedError says why it cannot be.

    Parameters: `shipped`, claims by the name of their test, for folders without a ledger; `map_name`, the phase map
    whose run stands first among those of one subject.
    """
    if not folder.is_dir():
        raise NotCollectedError("not there any more")
    results, manifest = (_read_json(folder / name) for name in (RESULTS, MANIFEST))
    if results is None or manifest is None:
        raise NotCollectedError("not a finished run; the command that began it goes on where it stopped")
    stage = results.get("stage")
    if stage not in ("run", "coherence", "discrimination"):
        raise NotCollectedError(f"not a run: its results are of stage {stage!r}")
    parts: dict[str, Any] = {stage: results}
    if stage == "run":
        parts = {
            "coherence": _read_json(folder / "coherence" / RESULTS),
            "discrimination": _read_json(folder / "discriminate" / RESULTS),
            "claims": _read_json(folder / "claims" / RESULTS),
        }
        lacking = [name for name, found in parts.items() if found is None]
        if lacking:
            raise NotCollectedError(f"no results of {', '.join(lacking)}; run it again")
    try:
        return _record(folder, manifest, parts, shipped, map_name)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise NotCollectedError(f"its results are not what this version writes ({detail})") from error


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object of this schema, or None where there is no file."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise NotCollectedError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
    schema = found.get("schema") if isinstance(found, dict) else type(found).__name__
    if schema != SCHEMA:
        raise NotCollectedError(f"{path.parent.name}/{path.name} has schema {schema!r}; this version reads {SCHEMA}")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _record(
    folder: Path, manifest: dict[str, Any], parts: dict[str, Any], shipped: dict[str, Claim], map_name: str
) -> RunRecord:
    coherence, discrimination = parts.get("coherence"), parts.get("discrimination")
    config = _config(folder / CONFIG)
    cells = cells_of(folder, manifest, coherence, discrimination, config)
    claims = _claims(folder, parts, shipped)
    return RunRecord(
        folder=folder,
        covers=tuple(_keys(folder, manifest)),
        content=_content(folder, manifest),
        links=links_of(manifest, coherence or discrimination or {}, cells, config),
        order=_order(cells, map_name),
        cells=cells,
        claims=claims,
        floors={"dependence": pvalues.dependence_floor(coherence), "difference": _bootstrap_floor(manifest)},
        ledger=_ledger_hash(parts),
    )


def _keys(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    yield str(manifest["key"])
    for stage in ("coherence", "discriminate"):
        made = _read_json(folder / stage / MANIFEST)
        if made is not None:
            yield str(made["key"])


def _content(folder: Path, manifest: dict[str, Any]) -> str:
    """Hash of what was read here, less what differs from one making to the next."""
    stable = {name: value for name, value in manifest.items() if name not in VOLATILE}
    digest = hashlib.sha256(content_key(stable).encode())
    for name in READ:
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def _ledger_hash(parts: dict[str, Any]) -> str | None:
    claims = parts.get("claims")
    return None if claims is None else str(claims["ledger_sha256"])


def _bootstrap_floor(manifest: dict[str, Any]) -> float | None:
    n = (manifest.get("determines") or {}).get("evaluation", {}).get("n_resamples")
    return None if n is None else 1 / (int(n) + 1)


def _config(path: Path) -> dict[str, Any]:
    """The settings of a run, less than all of them for a folder of one test; empty where there are none."""
    if not path.is_file():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast, where it is built
    try:
        found = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not YAML") from error
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} is not a mapping")
    return found


def _order(cells: dict[str, Any], map_name: str) -> tuple[Any, ...]:
    """Which run of a subject counts, by how it was made and never by what came out."""
    is_other_map = cells["phase_map"] != map_name
    is_scaled = cells["phase_scale_logits"] is not None
    is_by_token = cells["phase_scope"] != "position"
    sizes = (-(cells["n_positions"] or 0), -(cells["k"] or 0))
    return (is_other_map, cells["phase_map"], is_by_token, is_scaled, *sizes, cells["seed"] or 0, cells["key"])


def _claims(folder: Path, parts: dict[str, Any], shipped: dict[str, Claim]) -> tuple[ClaimRecord, ...]:
    """Every claim that the run tested; of a test on its own, the claim that it decides."""
    coherence, discrimination, judged = (parts.get(name) for name in ("coherence", "discrimination", "claims"))
    if judged is None:
        test, results = ("phase_coherence", coherence) if coherence else ("discrimination", discrimination or {})
        claim, decided = shipped[test], {name: results[name] for name in ("verdict", "reason", "robust")}
        listed, tests = [{"id": claim.id, "statement": claim.statement, **decided}], {claim.id: test}
    else:
        listed = [claim for claim in judged["claims"] if claim["verdict"] != NOT_TESTED]
        tests = _tests(folder / FROZEN)
    return tuple(_claim(claim, tests.get(claim["id"], ""), coherence, discrimination) for claim in listed)


def _claim(
    claim: dict[str, Any], test: str, coherence: dict[str, Any] | None, discrimination: dict[str, Any] | None
) -> ClaimRecord:
    sides = pvalues.SIDES[test](coherence, discrimination) if test in pvalues.SIDES else (None, None)
    words = {name: present(claim[name], str, name) for name in ("id", "statement", "verdict", "reason")}
    return ClaimRecord(
        **words, test=test, robust=typed(claim["robust"], bool, "robust"), supported=sides[0], falsified=sides[1]
    )


def _tests(path: Path) -> dict[str, str]:
    """The decision rule of every claim of a frozen ledger."""
    listed = json.loads(path.read_bytes())["claims"]
    return {str(claim["id"]): str(claim["test"]) for claim in listed}
