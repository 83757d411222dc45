"""What a test is a test of: the models by their weights, the texts by their content, and the condition."""

from typing import Any

from brf_exp.stages.pairs import PairInputs
from brf_exp.storage.captures import Capture

# What names the texts that a number of documents was taken from.
SOURCE = ("name", "path", "id", "revision", "subset", "split", "domain", "text_column")
# How generated texts were sampled; how many tokens there are is a size, not another text.
SAMPLING = ("temperature", "top_k", "top_p")


def tested_subject(inputs: PairInputs) -> dict[str, Any]:
    """Identities as JSON, for telling later which results are about the same models and texts, whatever their names.

    `models` as in the results; `texts`: `fingerprint` of what was read, `source` and `cut`, the number of documents
    that were taken from it at most (null: all); `generated`: who wrote the texts and how, or null.
    """
    first = inputs.captures[0].manifest
    corpus = first.get("corpus", {})
    return {
        "models": [_model_identity(capture) for capture in inputs.captures],
        "texts": {
            "fingerprint": corpus.get("fingerprint"),
            "source": {name: corpus.get(name) for name in SOURCE},
            "cut": corpus.get("max_documents", len(inputs.documents.doc_ids)),
        },
        "condition": first.get("condition", "none"),
        "generated": _generated(inputs),
    }


def _model_identity(capture: Capture) -> dict[str, Any]:
    """The hash of the weights; for models that were never here, name and revision as they were declared."""
    model = capture.manifest["model"]
    weights = model.get("weights_sha256")
    return {"weights_sha256": weights} if weights else {"name": model["name"], "revision": model.get("revision")}


def _generated(inputs: PairInputs) -> dict[str, Any] | None:
    found = inputs.captures[0].manifest.get("generation")
    if found is None:
        return None
    authors = [capture for capture in inputs.captures if capture.manifest.get("mode") == "generation"]
    author = _model_identity(authors[0]) if authors else {"name": found["by"]}
    return {"by": author, **{name: found["settings"].get(name) for name in SAMPLING}}
