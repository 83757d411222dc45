"""The ledger of public claims: small YAML files, frozen by hash before any result is read."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from brf_exp.errors import InputError
from brf_exp.paths import conf_dir
from brf_exp.storage.runs import RESULTS, content_key, read_json, write_json

FROZEN = "ledger.json"
# Stages whose results claims are judged by.
MEASURED = ("coherence", "discriminate", "audit")


@dataclass(frozen=True)
class Claim:
    """One public claim: what would support it and what would falsify it. `test` names its decision rule or is none."""

    id: str
    source: str
    statement: str
    test: str
    statistic: str
    supported_if: str
    falsified_if: str
    smallest_effect: str


@dataclass(frozen=True)
class FrozenLedger:
    """The claims a run froze and their hash; `frozen_late`: results of a stage were there before."""

    claims: list[Claim]
    sha256: str
    frozen_late: bool


def load_ledger(folder: str | None) -> list[Claim]:
    """Every claim of a folder, by id; InputError names the file and key that is wrong."""
    root = Path(folder) if folder else conf_dir() / "ledger"
    paths = sorted(root.glob("*.yaml"))
    if not paths:
        raise InputError(
            f"`claims.ledger` must be a folder of claim files, got {str(root)!r}. Add one *.yaml per claim."
        )
    return [_read_claim(path) for path in paths]


def _read_claim(path: Path) -> Claim:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"`{path.name}` must be YAML: {str(error).splitlines()[0]}. Mend the claim file.") from error
    wanted = [field.name for field in fields(Claim)]
    if not isinstance(values, dict) or sorted(values) != sorted(wanted):
        raise InputError(f"`{path.name}` must have exactly the keys {', '.join(wanted)}. Mend the claim file.")
    return Claim(**{name: str(value) for name, value in values.items()})


def ledger_hash(claims: list[Claim]) -> str:
    """Hash of all claims."""
    return content_key([asdict(claim) for claim in claims])


def freeze(run_folder: Path, folder: str | None) -> str:
    """Write the ledger into a run before it looks at results; an earlier freeze of the same run stands.

    Where results are there already, the ledger says so for good.
    """
    path = run_folder / FROZEN
    if not path.is_file():
        claims = load_ledger(folder)
        late = any((run_folder / stage / RESULTS).is_file() for stage in MEASURED)
        listed = [asdict(claim) for claim in claims]
        write_json(path, {"sha256": ledger_hash(claims), "frozen_late": late, "claims": listed})
    return str(read_json(path)["sha256"])


def frozen(run_folder: Path) -> FrozenLedger | None:
    """The ledger a run froze, or None."""
    path = run_folder / FROZEN
    if not path.is_file():
        return None
    content: dict[str, Any] = read_json(path)
    claims = [Claim(**values) for values in content["claims"]]
    if ledger_hash(claims) != content["sha256"]:
        raise InputError(f"`{path}` must match its own hash, got another. It was edited; delete the run and run again.")
    return FrozenLedger(claims, content["sha256"], bool(content.get("frozen_late", False)))
