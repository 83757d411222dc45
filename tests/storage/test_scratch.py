"""Working arrays: in memory up to a budget, beyond it in files that nobody sees and that vanish."""

from pathlib import Path

import numpy as np
import pytest

from brf_exp.storage.scratch import MEBIBYTE, Scratch


@pytest.mark.parametrize("shape", [(7,), (3, 5), (0,), (2, 0)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.int8])
def test_arrays_have_the_shape_and_type_asked_for(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    for scratch in (Scratch(tmp_path, memory_mb=0), Scratch(tmp_path, memory_mb=1), Scratch.in_memory()):
        made = scratch.empty(shape, dtype)
        assert (made.shape, made.dtype) == (shape, np.dtype(dtype))
        made[...] = 3
        assert (made == 3).all()


def test_the_budget_decides_what_is_in_memory(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", memory_mb=1)
    half = MEBIBYTE // 16
    kept = [scratch.empty((half,)), scratch.empty((half,))]
    assert not any(isinstance(array, np.memmap) for array in kept)
    assert not (tmp_path / "scratch").exists()
    assert isinstance(scratch.empty((1,)), np.memmap)
    assert not isinstance(scratch.empty((0,)), np.memmap)
    kept.pop()
    assert not isinstance(scratch.empty((half,)), np.memmap)
    kept.append(scratch.empty((half,))[1:])
    assert isinstance(scratch.empty((1,)), np.memmap)


def test_what_is_too_large_leaves_the_budget_to_what_fits(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, memory_mb=1)
    assert isinstance(scratch.empty((MEBIBYTE,)), np.memmap)
    assert not isinstance(scratch.empty((MEBIBYTE // 8,)), np.memmap)


def test_values_do_not_depend_on_where_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 1000))
    made = [Scratch(tmp_path, memory_mb=mb).empty(values.shape) for mb in (0, 1)]
    for array in made:
        array[:] = values
        array[1] += array[0]
    assert isinstance(made[0], np.memmap)
    np.testing.assert_array_equal(made[0], made[1])
    assert made[0].sum() == made[1].sum()


def test_files_have_no_name_while_they_are_used(tmp_path: Path) -> None:
    first, second = (Scratch(tmp_path, memory_mb=0).empty((1000,)) for _ in range(2))
    first[:], second[:] = 1, 2
    assert (first == 1).all()
    assert list(tmp_path.iterdir()) == []
