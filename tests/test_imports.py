"""What an import loads, seen from a fresh interpreter."""

import pkgutil
import subprocess
import sys

import pytest

import brf_exp

HEAVY_FOR_MATHS = ("torch", "pyarrow", "matplotlib", "hydra", "pandas", "sklearn", "transformers")
MODEL_PACKAGES = ("torch", "transformers", "datasets")


def _loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*(n for n in {names!r} if n in sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def _modules(package: str) -> list[str]:
    """Dotted names of a package and everything in it."""
    prefix = f"{brf_exp.__name__}.{package}"
    folders = [f"{folder}/{package}" for folder in brf_exp.__path__]
    return [prefix, *(info.name for info in pkgutil.walk_packages(folders, prefix + "."))]


def test_the_check_can_fail() -> None:
    code = "import types; sys.modules['torch'] = types.ModuleType('torch'); import pyarrow"
    assert _loaded(code, HEAVY_FOR_MATHS) == ["torch", "pyarrow"]


def test_the_mathematics_loads_nothing_heavy() -> None:
    modules = _modules("maths")
    assert len(modules) > 2
    assert _loaded("\n".join(f"import {name}" for name in modules), HEAVY_FOR_MATHS) == []


@pytest.mark.parametrize("package", ["stages", "storage", "submission", "report", "capture", "corpora", "models"])
def test_no_module_loads_the_model_packages(package: str) -> None:
    code = "\n".join(f"import {name}" for name in _modules(package))
    assert _loaded(code, MODEL_PACKAGES) == []


def test_config_and_errors_stand_alone() -> None:
    code = "import brf_exp.config, brf_exp.errors, brf_exp.paths, brf_exp.settings, brf_exp.checks"
    assert _loaded(code, (*HEAVY_FOR_MATHS, "numpy", "omegaconf", "yaml")) == []
