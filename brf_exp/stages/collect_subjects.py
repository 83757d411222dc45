"""Which runs test the same: models and texts by what they are, and not by what they are called."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Links:
    """What ties a run to others of its subject.

    Runs with an entry of `same` in common are of one subject. `source` names models and the place of their texts, and
    `cut` how many documents were taken there: with one source and several cuts the smaller texts are part of the
    larger ones, while one source, one cut and other texts means that the place holds other texts now.
    """

    same: tuple[str, ...]
    source: str | None = None
    cut: str = ""


def links_of(manifest: dict[str, Any], results: dict[str, Any], cells: dict[str, Any], config: dict[str, Any]) -> Links:
    """The links of a run, from its results; for older ones, which do not say what was tested, from names."""
    rows = _rows(manifest)
    tested = results.get("tested")
    if tested is None:
        return Links((*rows, _named(results, cells, config)))
    models = sorted(_text(model) for model in tested["models"])
    texts, generated = tested["texts"], tested["generated"]
    source = _text("source", models, texts["source"], tested["condition"], generated)
    if texts["fingerprint"] is not None:
        rows += (_text("texts", models, texts["fingerprint"], tested["condition"], generated),)
    if generated is not None:  # another seed writes other texts, but no other subject
        return Links((*rows, source))
    return Links(rows or (source,), source, _text(texts["cut"]))


def _rows(manifest: dict[str, Any]) -> tuple[str, ...]:
    """The captures that were read, by their content."""
    inputs = (manifest.get("determines") or {}).get("inputs") or {}
    captures = inputs.get("captures")
    return (_text("rows", sorted(map(str, captures))),) if captures else ()


def _named(results: dict[str, Any], cells: dict[str, Any], config: dict[str, Any]) -> str:
    """Models and texts as the settings name them."""
    corpus, pair = config.get("corpus") or {}, config.get("pair") or {}
    names, models = sorted(map(str, results["models"])), list[str]()
    texts: list[Any] = []
    if not config.get("captures") and not pair.get("submission"):
        texts = [corpus.get(name) for name in ("path", "id", "revision", "subset", "split", "domain")]
        asked = [(pair.get(key), pair.get(f"{key}_revision")) for key in ("a", "b")]
        models = sorted(_text(*one) for one in [*asked, *((other, None) for other in pair.get("others") or [])])
    return _text("names", names, models, cells["corpus"], texts, cells["condition"])


def _text(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def subjects_of(runs: Sequence[Links]) -> list[str]:
    """The subject of every run: equal text for runs that are tied, directly or through others."""
    leader: dict[str, str] = {}

    def found(link: str) -> str:
        while leader.setdefault(link, link) != link:
            link = leader[link]
        return link

    for links in _ties(runs):
        first, *others = sorted({found(link) for link in links})
        leader.update(dict.fromkeys(others, first))
    return [found(run.same[0]) for run in runs]


def _ties(runs: Sequence[Links]) -> Iterable[tuple[str, ...]]:
    """Links that mean the same."""
    cuts: dict[str, set[str]] = {}
    for run in runs:
        if run.source is not None:
            cuts.setdefault(run.source, set()).add(run.cut)
    for run in runs:
        has_cuts = run.source is not None and len(cuts[run.source]) > 1
        yield (*run.same, run.source) if has_cuts and run.source is not None else run.same
