"""The noise floor of a second capture, and the k that would decide."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.config import CaptureConfig, DiscriminateStageConfig, Dtype, PhaseConfig
from brf_exp.errors import InputError
from brf_exp.maths.documents import assign_folds
from brf_exp.maths.phases import phases
from brf_exp.maths.rules import fuse
from brf_exp.stages import discriminate
from brf_exp.stages.recapture import _other_noise
from brf_exp.storage import schema
from brf_exp.storage.captures import open_capture
from brf_exp.storage.runs import read_json

LENGTHS = [30 + d % 11 for d in range(25)]
N, V = sum(LENGTHS), 10
IDS = [f"d{place}" for place in range(len(LENGTHS))]  # as write_capture names them


def _logits(model: int, noise: float) -> np.ndarray:
    shared = np.random.default_rng(5).normal(0, 2, (N, V))
    own = np.random.default_rng([6, model]).normal(0, 1, (N, V))
    return (shared + own + noise * np.random.default_rng([7, model]).normal(0, 1, (N, V))).astype(np.float32)


TARGETS = np.argmax(_logits(0, 0.0) + np.random.default_rng(9).gumbel(size=(N, V)), axis=1)


def _rows(z: np.ndarray, targets: np.ndarray, k: int) -> dict[str, np.ndarray]:
    order = np.argsort(-z, axis=1, kind="stable")[:, :k]
    return {
        "token_id": targets,
        "target_logit": z[np.arange(len(z)), targets],
        "logsumexp": np.logaddexp.reduce(z.astype(np.float64), axis=1),
        **dict(zip(schema.id_columns(k), order.T, strict=True)),
        **dict(zip(schema.logit_columns(k), np.take_along_axis(z, order, axis=1).T, strict=True)),
    }


@pytest.fixture
def dump(write_capture: Callable[..., str]) -> Callable[..., list[str]]:
    """A function that writes the pair's captures, perturbed by `noise`, of the first documents."""

    def write(name: str, noise: float = 0.0, n_documents: int = 25, cut: int = 0, k: int = V) -> list[str]:
        lengths = LENGTHS[:n_documents]
        lengths[-1] -= cut
        folders = []
        for model in (0, 1):
            rows = _rows(_logits(model, noise)[: sum(lengths)], TARGETS[: sum(lengths)], k)
            made = {"vocabulary_size": V, "weights_sha256": f"{model}"}
            folders.append(
                write_capture(f"m{model}", rows["logit_1"], lengths, folder=f"{name}-{model}", model=made, **rows)
            )
        return folders

    return write


def _results(tmp_path: Path, folders: list[str], again: list[str], **settings: Any) -> dict[str, Any]:
    config = DiscriminateStageConfig(runs_dir=str(tmp_path / "runs"), captures=folders, progress=False, **settings)
    config.recapture.captures = again
    config.evaluation.n_resamples, config.evaluation.controls = 99, False
    made: dict[str, Any] = read_json(discriminate.run(config) / "results.json")
    return made


def _mean_difference(results: dict[str, Any], noise: float, n_documents: int, rival: str) -> float:
    """Mean loss of Born Rule Fusion minus a rival's on whole vocabularies, at each fold's parameters, by a loop."""
    z = [_logits(model, noise).astype(np.float64) for model in (0, 1)]
    log_p = np.stack([rows - np.logaddexp.reduce(rows, axis=1, keepdims=True) for rows in z])
    top = [-np.sort(-rows, axis=1) for rows in z]
    folds = assign_folds(IDS, 5, 0)
    total, row = 0.0, 0
    for document, length in enumerate(LENGTHS[:n_documents]):
        given = {name: results["rules"][name]["parameters"]["folds"][folds[document]] for name in ("brf", rival)}
        for _ in range(length):
            gaps = [rows[row : row + 1, 0] - rows[row : row + 1, 1] for rows in top]
            phi = [phases("arctan", gap, scale=given["brf"]["scale"]) for gap in gaps]
            here = log_p[:, row : row + 1]
            weights = {name: np.array([p["weight"], 1 - p["weight"]]) for name, p in given.items()}
            ours = fuse("brf", here, weights=weights["brf"], phases_rad=np.stack(phi)).p[0, TARGETS[row]]
            theirs = fuse(rival, here, weights=weights[rival]).p[0, TARGETS[row]]
            total += -np.log(ours) + np.log(theirs)
            row += 1
    return total / row


@pytest.mark.parametrize("cut", [0, 3])
def test_the_noise_floor_is_the_shift_of_the_mean(tmp_path: Path, dump: Callable[..., list[str]], cut: int) -> None:
    first, again = dump("first"), dump("again", noise=0.3, n_documents=12, cut=cut)
    results = _results(tmp_path, first, again)
    n_documents = 12 - (cut > 0)
    assert results["noise_floor"]["n_positions"] == sum(LENGTHS[:n_documents])
    for rival in ("linear", "log_linear"):
        contrast = results["contrasts"][rival]
        shift = _mean_difference(results, 0.0, n_documents, rival) - _mean_difference(results, 0.3, n_documents, rival)
        assert contrast["noise_floor_nats"] == pytest.approx(abs(shift), abs=1e-9)
        assert contrast["least_gain_nats"] == max(0.005, contrast["noise_floor_nats"])
    floors = [contrast["noise_floor_nats"] for contrast in results["contrasts"].values()]
    assert results["noise_floor"]["largest_nats"] == max(floors) > 0


def test_the_same_capture_again_has_no_noise(tmp_path: Path, dump: Callable[..., list[str]]) -> None:
    first = dump("first", k=4)
    for phase in ("arctan", "quantile"):
        results = _results(tmp_path, first, first, phase=PhaseConfig(phase))
        assert all(made["noise_floor_nats"] == 0 for made in results["contrasts"].values())
        assert results["noise_floor_reason"] == ""


def test_without_a_second_capture_it_says_so(tmp_path: Path, dump: Callable[..., list[str]]) -> None:
    results = _results(tmp_path, dump("first"), [])
    assert results["noise_floor"] is None and "recapture.captures" in results["noise_floor_reason"]
    assert all(made["noise_floor_nats"] is None for made in results["contrasts"].values())


def test_another_text_is_refused(tmp_path: Path, dump: Callable[..., list[str]], write_capture: Any) -> None:
    first, again = dump("first"), []
    for model in (0, 1):
        rows = _rows(_logits(model, 0.0)[:60], (TARGETS[:60] + 1) % V, V)
        again.append(write_capture(f"m{model}", rows["logit_1"], LENGTHS[:1] + [30], folder=f"other-{model}", **rows))
    with pytest.raises(InputError, match="`recapture` must have the first documents of m0"):
        _results(tmp_path, first, again)
    assert not (tmp_path / "runs" / "discriminate").is_dir() or not list(
        (tmp_path / "runs" / "discriminate").glob("m*")
    )


def test_a_second_capture_without_the_temperatures_is_refused(
    tmp_path: Path, dump: Callable[..., list[str]], write_capture: Any
) -> None:
    first = []
    for model in (0, 1):
        z = _logits(model, 0.0)
        rows = _rows(z, TARGETS, V) | {"logsumexp_t2": np.logaddexp.reduce(z.astype(np.float64) / 2, axis=1)}
        first.append(write_capture(f"m{model}", rows["logit_1"], LENGTHS, folder=f"warm-{model}", **rows))
    with pytest.raises(InputError, match="m0 lacks logsumexp_t2"):
        _results(tmp_path, first, dump("again"))


def test_the_second_capture_is_made_otherwise() -> None:
    half = _other_noise(CaptureConfig(), Dtype.BFLOAT16)
    assert half == CaptureConfig(dtype=Dtype.BFLOAT16, batch_tokens=1024)
    # The context stays as it is: another one is another condition, not noise.
    single = _other_noise(CaptureConfig(batch_tokens=2, dtype=Dtype.BFLOAT16), Dtype.BFLOAT16)
    assert single == CaptureConfig(batch_tokens=2)


def test_truncation_names_the_k_that_would_decide(
    tmp_path: Path, dump: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brf_exp.stages.discriminate.controls_state", lambda controls: "passed")
    results = _results(tmp_path, dump("first", k=4), [])
    assert (results["verdict"], results["reason"]) == ("inconclusive", "truncation")
    deciding = results["deciding_k"]
    assert list(deciding["widths"]) == ["2", "4"] and 4 < deciding["k"] <= V
    for rival, width in deciding["widths"]["4"].items():
        low, high = results["contrasts"][rival]["truncation"]
        assert width == pytest.approx(high - low)
        assert deciding["widths"]["2"][rival] >= width
    complete = _results(tmp_path, dump("complete", k=V), [])
    assert complete["verdict"] == deciding["verdict"] and complete["deciding_k"] is None


def test_a_truncated_capture_is_one_of_fewer_logits(dump: Callable[..., list[str]]) -> None:
    whole = open_capture(Path(dump("first")[0]))
    cut = whole.truncated(3)
    assert (whole.k, cut.k) == (V, 3)
    assert [name for name in cut.columns if name.startswith("id_")] == ["id_1", "id_2", "id_3"]
    assert json.loads(json.dumps(cut.manifest)) == whole.manifest
