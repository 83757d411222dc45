"""Which model a name means, where its files are, and what identifies them; nothing heavy is imported."""

import hashlib
import importlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brf_exp.config import ModelConfig
from brf_exp.errors import ConfigError, InputError

EMBEDDED = Path(__file__).parent / "embedded"
INSTALL = "pip install 'brf-exp[models]'"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
# Everything besides the weights that moves a logit or a token.
IDENTIFYING_FILES = (
    "added_tokens.json",
    "config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class ModelReference:
    """One model: `folder` is None until a hub model's files are local, `revision` is then its commit."""

    name: str
    id: str
    revision: str | None
    folder: Path | None
    embedded: bool


@dataclass(frozen=True)
class ModelFiles:
    """SHA-256 (hex) of a model's weights together, and of each other file that identifies it."""

    weights_sha256: str
    sha256: dict[str, str]


def embedded_names() -> list[str]:
    """Names of the models that come with the package, sorted."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/config.json"))


def resolve(model: ModelConfig) -> ModelReference:
    """The model that a setting means; ConfigError where name and id do not go together."""
    if model.name == "hf":
        if model.id is None:
            raise ConfigError("`model.id` must be a hub id or a local folder with model=hf, got None.")
        return resolve_spec(model.id, model.revision)
    if model.id is not None:
        raise ConfigError(f"`model` must be hf when model.id is set, got {model.name!r}. Write model=hf.")
    return resolve_spec(model.name, model.revision)


def resolve_spec(spec: str, revision: str | None = None) -> ModelReference:
    """An embedded name, else an existing local folder, else a hub id `org/name`; InputError for anything else."""
    if spec in embedded_names():
        return ModelReference(spec, spec, None, EMBEDDED / spec, embedded=True)
    folder = Path(spec).expanduser()
    if spec and folder.is_dir():
        return ModelReference(folder.resolve().name, spec, None, folder.resolve(), embedded=False)
    if HUB_ID.fullmatch(spec):
        return ModelReference(spec, spec, revision, None, embedded=False)
    known = ", ".join([*embedded_names(), "an existing folder", "a hub id org/name"])
    raise InputError(f"`model` must be one of {known}, got {spec!r}.")


def fetch(reference: ModelReference) -> ModelReference:
    """The same model with its files in a local folder; a hub model is downloaded once and pinned to its commit."""
    if reference.folder is None:
        folder = _download(reference)
        reference = replace(reference, folder=folder, revision=folder.name)
    _check_folder(folder_of(reference), reference.name)
    return reference


def folder_of(reference: ModelReference) -> Path:
    """The local folder of a fetched model."""
    if reference.folder is None:
        raise ValueError(f"fetch {reference.name} first")
    return reference.folder


def _download(reference: ModelReference) -> Path:
    """The hub's snapshot folder, named by its commit; only safetensors weights, configuration and tokenizer."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise InputError(f"`{reference.name}` must be downloaded with huggingface_hub. Install it: {INSTALL}") from None
    importlib.import_module("huggingface_hub.utils").logging.set_verbosity_error()
    try:
        return Path(
            hub.snapshot_download(
                reference.id,
                revision=reference.revision,
                allow_patterns=[WEIGHTS, "model-*.safetensors", WEIGHTS_INDEX, *IDENTIFYING_FILES],
            )
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        raise InputError(
            f"`{reference.id}` must be a model that can be downloaded from the hub, got {type(error).__name__} at "
            f"revision {reference.revision or 'main'}: {reason}. Check the id, the revision and the network."
        ) from None


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that is not a model in safetensors with its tokenizer."""
    if not (folder / "config.json").is_file():
        raise InputError(f"`{name}` must be a model folder with a config.json, got none in {str(folder)!r}.")
    others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".gguf", ".h5", ".pt", ".pth"))
    if not (folder / WEIGHTS).is_file() and not (folder / WEIGHTS_INDEX).is_file():
        raise InputError(
            f"`{name}` must have its weights in {WEIGHTS}, got {', '.join(others) or 'no weights'}. "
            "Save it again with model.save_pretrained(folder)."
        )
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise InputError(
            f"`{name}` must have a tokenizer.json, got none in {str(folder)!r}. "
            "Save it there with tokenizer.save_pretrained(folder)."
        )


def identify(reference: ModelReference) -> ModelFiles:
    """Hashes of a fetched model's files, read in full."""
    folder = folder_of(reference)
    shards = {name: _sha256_of(folder / name) for name in _weight_files(folder, reference.name)}
    if len(shards) == 1:
        weights = next(iter(shards.values()))
    else:
        weights = hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()
    present = [name for name in IDENTIFYING_FILES if (folder / name).is_file()]
    return ModelFiles(weights, {name: _sha256_of(folder / name) for name in present})


def _weight_files(folder: Path, name: str) -> list[str]:
    """Names of the weight files, sorted; a sharded model's from its index."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))
    files = sorted({Path(file).name for file in index["weight_map"].values()})
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise InputError(f"`{name}` must have all weight files of its index, got none of {', '.join(missing)}.")
    return files


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
