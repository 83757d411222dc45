"""From a pair's settings to matched captures: the one place that knows where a pair's rows come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig, ModelConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.storage.captures import Capture, DocumentIndex, open_capture
from brf_exp.storage.runs import content_key, read_json

PAIR_FILE = "pair.json"
EMBEDDED_PREFIX = "tiny_"


@dataclass(frozen=True)
class PairInputs:
    """Two models' captures with equal rows, and a third one's for the difficulty of tokens where there is one."""

    name: str
    captures: tuple[Capture, Capture]
    proxy: Capture | None
    lineage: str | None
    pseudo_documents: bool

    @property
    def documents(self) -> DocumentIndex:
        """The documents of all captures."""
        return self.captures[0].documents

    @property
    def texts(self) -> Path | None:
        """The documents' texts, where they were kept."""
        for folder in (self.captures[0].folder, self.captures[0].folder.parent):
            if (folder / "texts.jsonl").is_file():
                return folder / "texts.jsonl"
        return None

    @property
    def corpus_name(self) -> str:
        """What the texts are called in sentences."""
        corpus = self.captures[0].manifest.get("corpus", {})
        if corpus.get("name") == "file" and corpus.get("path"):
            return Path(corpus["path"]).name
        if corpus.get("name") == "hub" and corpus.get("id"):
            return str(corpus["id"])
        return str(corpus.get("name", "unnamed texts"))

    def identity(self) -> dict[str, Any]:
        """What determines these rows, for keys and manifests."""
        members = [capture_identity(capture) for capture in self.captures]
        return {"pair": self.name, "captures": members, "proxy": self.proxy and capture_identity(self.proxy)}

    def gaps(self) -> np.ndarray:
        """Logit gaps of both models, (2, n), float64; InputError where one is not a finite number."""
        found = []
        for capture in self.captures:
            top = capture.read(["logit_1", "logit_2"])
            gap = top["logit_1"].astype(np.float64) - top["logit_2"].astype(np.float64)
            if not np.isfinite(gap).all():
                row = int(np.flatnonzero(~np.isfinite(gap))[0]) + 1
                raise InputError(
                    f"`logit_1` and `logit_2` of {capture.model_name} must be finite, got another value in row {row}. "
                    "Mend the capture."
                )
            found.append(gap)
        return np.stack(found)


def capture_identity(capture: Capture) -> str:
    """Hash of a capture's rows and of the names that results quote."""
    parts = [part["sha256"] for part in capture.manifest["parts"]]
    corpus = capture.manifest.get("corpus", {})
    named = {name: corpus.get(name) for name in ("name", "path", "id")}
    return content_key({"parts": parts, "model": capture.model_name, "corpus": named})


def resolve_pair(config: AnalysisStageConfig) -> PairInputs:
    """The captures a stage's settings ask for, captured now where they are not there yet."""
    if config.captures:
        inputs = _from_folders(config)
    elif config.pair.submission:
        inputs = _from_submission(config)
    else:
        inputs = _from_models(config)
    _match_rows(inputs)
    return inputs


def _from_folders(config: AnalysisStageConfig) -> PairInputs:
    if len(config.captures) != 2:
        raise ConfigError(f"`captures` must be two capture folders, got {len(config.captures)}. Name them as [A,B].")
    first, second = (open_capture(Path(folder).absolute()) for folder in config.captures)
    proxy = open_capture(Path(config.proxy).absolute()) if config.proxy else None
    return PairInputs(f"{first.model_name}-{second.model_name}", (first, second), proxy, None, _is_pseudo(first))


def _from_submission(config: AnalysisStageConfig) -> PairInputs:
    folder = Path(config.pair.submission or "")
    description = read_json(folder / PAIR_FILE)
    members = {name: open_capture(folder / model["capture"]) for name, model in description["models"].items()}
    if not description["shared_ids"]:
        raise InputError(
            f"`{description['name']}` must have models with one tokenizer, got different ones. "
            "Submit dumps of two models that share their token ids."
        )
    names = sorted(members)
    third = config.proxy or (names[2] if len(names) > 2 else None)
    proxy = None
    if third is not None:
        proxy = members[third] if third in members else open_capture(Path(third).absolute())
    pair = (members[names[0]], members[names[1]])
    return PairInputs(description["name"], pair, proxy, config.pair.lineage, _is_pseudo(pair[0]))


def _from_models(config: AnalysisStageConfig) -> PairInputs:
    # Late import: capturing needs torch, and an analysis of captures that are there does not.
    from brf_exp.stages.capture import capture

    pair = config.pair
    for key, value in (("pair.a", pair.a), ("pair.b", pair.b)):
        if not value:
            raise ConfigError(f"`{key}` must be a model folder or hub id, got none. Add {key}=PATH.")
    third = config.proxy or pair.proxy
    specs = [(pair.a, pair.a_revision), (pair.b, pair.b_revision)]
    if third:
        specs.append((third, None if config.proxy else pair.proxy_revision))
    made = []
    for spec, revision in specs:
        folder = capture(
            _model_of(str(spec), revision),
            config.corpus,
            config.capture,
            condition=config.condition,
            runs_dir=Path(config.runs_dir),
            seed=config.seed,
            progress=config.progress,
        )
        made.append(open_capture(folder))
    name = pair.name if pair.name != "hf" else f"{made[0].model_name}-{made[1].model_name}"
    return PairInputs(name, (made[0], made[1]), made[2] if third else None, pair.lineage, False)


def _model_of(spec: str, revision: str | None) -> ModelConfig:
    """A pair's member as model settings: an embedded name, a local folder or a hub id."""
    if spec.startswith(EMBEDDED_PREFIX) and "/" not in spec:
        return ModelConfig(name=spec)
    return ModelConfig(name="hf", id=spec, revision=revision)


def _is_pseudo(capture: Capture) -> bool:
    return bool(capture.manifest.get("pseudo_documents", False))


def _match_rows(inputs: PairInputs) -> None:
    """Row n must be the same (doc_id, position, token_id) in every capture."""
    first = inputs.captures[0]
    others = [inputs.captures[1], *([inputs.proxy] if inputs.proxy else [])]
    for other in others:
        _require_same_tokenizer(first, other)
        if first.documents.doc_ids != other.documents.doc_ids or not np.array_equal(
            first.documents.offsets, other.documents.offsets
        ):
            raise InputError(
                f"`{other.model_name}` must have the documents of {first.model_name}, got others "
                f"({other.n_rows} rows in {len(other.documents.doc_ids)} documents against {first.n_rows} in "
                f"{len(first.documents.doc_ids)}). Capture both on the same texts."
            )
        shared = [name for name in ("position", "token_id") if name in first.columns and name in other.columns]
        left, right = first.read(shared), other.read(shared)
        for name in shared:
            unequal = np.flatnonzero(left[name] != right[name])
            if unequal.size:
                row = int(unequal[0])
                raise InputError(
                    f"`{name}` of {other.model_name} must equal that of {first.model_name}, got {right[name][row]} "
                    f"instead of {left[name][row]} in row {row + 1}. Dump both models on the same tokens."
                )


def _require_same_tokenizer(first: Capture, other: Capture) -> None:
    left, right = (capture.manifest.get("tokenizer_fingerprint") for capture in (first, other))
    if left and right and left != right:
        raise InputError(
            f"`{other.model_name}` must have the tokenizer of {first.model_name}, got another one. "
            "Choose two models that share their token ids."
        )
