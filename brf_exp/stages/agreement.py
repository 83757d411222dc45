"""At how many positions a phase map suppresses agreement, cos(phase difference) < 0: known from the gaps alone."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths.documents import document_chunks, document_sums
from brf_exp.maths.phases import MAPS, phases
from brf_exp.maths.resampling import ratio_test
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.fusion_source import CaptureSource


def agreement_of(source: CaptureSource, config: AnalysisStageConfig, default_scale: float) -> dict[str, Any]:
    """Share of the positions with cos < 0 under the primary map, with its interval over documents; `maps` has all maps.

    Every map at its own scale: the one set for the primary map, `default_scale` for the others. Tuning may shrink
    phases to almost nothing. With more than two models the mean over pairs counts. `interval` is null where documents
    do not define one.
    """
    primary = config.phase.name
    names = [primary, *(name for name in MAPS if name != primary)]
    scales = {name: default_scale for name in names} | {primary: config.phase.scale or default_scale}
    maps = {name: _share(source, config, name, scales[name], place) for place, name in enumerate(names)}
    return {**maps[primary], "maps": maps}


def _share(
    source: CaptureSource, config: AnalysisStageConfig, name: str, scale: float, place: int
) -> dict[str, float | list[float] | None]:
    sums = np.concatenate(list(_suppressed(source, name, scale)))
    share = float(sums.sum() / source.offsets[-1])
    return {"negative_share": share, "interval": _interval(sums, source.offsets, config, place)}


def _suppressed(source: CaptureSource, name: str, scale: float) -> Iterator[np.ndarray]:
    """Positions with cos < 0 of each document, chunk by chunk."""
    for documents in document_chunks(source.offsets):
        rows = slice(int(source.offsets[documents.start]), int(source.offsets[documents.stop]))
        phi = [
            phases(name, gaps[rows], scale=scale, table=source.table, ranks=ranks[rows])
            for gaps, ranks in zip(source.gaps.gaps, source.ranks, strict=True)
        ]
        mean = np.mean([np.cos(first - second) for first, second in combinations(phi, 2)], axis=0)
        within = source.offsets[documents.start : documents.stop + 1] - rows.start
        yield document_sums((mean < 0).astype(np.float64), within)


def _interval(sums: np.ndarray, offsets: np.ndarray, config: AnalysisStageConfig, place: int) -> list[float] | None:
    try:
        test = ratio_test(
            sums,
            np.diff(offsets),
            confidence_level=config.evaluation.confidence_level,
            n_resamples=config.evaluation.n_resamples,
            rng=np.random.default_rng([config.seed, 111, place]),
        )
    except UndefinedStatisticError:
        return None
    return list(test.interval)
