import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from brf_exp.config import ModelConfig
from brf_exp.errors import BrfError, ConfigError, InputError
from brf_exp.models import reference
from brf_exp.models.reference import ModelReference, embedded_names, fetch, identify, resolve, resolve_spec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a model, without a model."""
    made = tmp_path / "my model, v=1"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "tokenizer.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_embedded() -> None:
    names = embedded_names()
    assert "tiny_prose" in names and names == sorted(names)
    found = resolve(ModelConfig("tiny_prose"))
    assert found.embedded and found.revision is None and found.folder is not None
    assert fetch(found) == found


def test_local_folder(folder: Path) -> None:
    found = resolve(ModelConfig("hf", id=str(folder), revision="main"))
    assert found == ModelReference("my model, v=1", str(folder), None, folder.resolve(), embedded=False)
    assert fetch(found) == found


def test_hub_id() -> None:
    found = resolve_spec("org/model-a", "abc123")
    assert found == ModelReference("org/model-a", "org/model-a", "abc123", None, embedded=False)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (ModelConfig("hf"), ConfigError, r"`model\.id` must be a hub id or a local folder with model=hf, got None\."),
        (
            ModelConfig("tiny_prose", id="a/b"),
            ConfigError,
            r"`model` must be hf when model\.id is set, got 'tiny_prose'\.",
        ),
        (ModelConfig("gpt2"), InputError, r"`model` must be one of .*tiny_prose, .*a hub id org/name, got 'gpt2'\."),
        (ModelConfig("hf", id=""), InputError, r"`model` must be one of .*, got ''\."),
        (ModelConfig("hf", id="/no/such/folder"), InputError, r"`model` must be one of .*, got '/no/such/folder'\."),
    ],
)
def test_models_that_cannot_be_meant(model: ModelConfig, error: type[BrfError], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        resolve(model)


def test_only_pytorch_bin(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        InputError, match=r"must have its weights in model\.safetensors, got pytorch_model\.bin\. Save it"
    ):
        fetch(resolve_spec(str(folder)))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"must be a model folder with a config\.json, got none"),
        ("tokenizer.json", r"must have a tokenizer\.json, got none"),
        ("model.safetensors", r"must have its weights in model\.safetensors, got no weights\."),
    ],
)
def test_files_missing(missing: str, message: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(InputError, match=message):
        fetch(resolve_spec(str(folder)))


def test_identity_is_of_every_file_that_counts(folder: Path) -> None:
    before = identify(resolve_spec(str(folder)))
    assert set(before.sha256) == {"config.json", "tokenizer.json"}
    (folder / "README.md").write_text("words")
    assert identify(resolve_spec(str(folder))) == before
    (folder / "tokenizer.json").write_text("{} ")
    assert identify(resolve_spec(str(folder))) != before
    (folder / "model.safetensors").write_bytes(b"other")
    assert identify(resolve_spec(str(folder))).weights_sha256 != before.weights_sha256


def test_sharded_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_bytes(b"1")
    found = fetch(resolve_spec(str(folder)))
    with pytest.raises(
        InputError, match=r"must have all weight files of its index, got none of model-2\.safetensors\."
    ):
        identify(found)
    (folder / "model-2.safetensors").write_bytes(b"2")
    first = identify(found).weights_sha256
    (folder / "model-2.safetensors").write_bytes(b"3")
    assert identify(found).weights_sha256 != first


def test_hub_model_is_pinned_to_its_commit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "0123abc"
    shutil.copytree(folder, snapshot)
    asked: dict[str, object] = {}

    def download(repo_id: str, **settings: object) -> str:
        asked.update(settings, repo_id=repo_id)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = fetch(resolve_spec("org/model-a", "main"))
    assert (found.revision, found.folder, found.name) == ("0123abc", snapshot, "org/model-a")
    assert (asked["repo_id"], asked["revision"]) == ("org/model-a", "main")
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list) and not [p for p in patterns if p.endswith((".bin", ".py", "*"))]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        InputError, match=r"^`org/model-a` must be a model that can be downloaded .* no route to host\. "
    ) as e:
        fetch(resolve_spec("org/model-a"))
    assert "\n" not in str(e.value)


def test_hub_in_a_fresh_process() -> None:
    program = """
from brf_exp.errors import InputError
from brf_exp.models.reference import fetch, resolve_spec
try:
    fetch(resolve_spec("org/no-such-model"))
except InputError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("`org/no-such-model` must be a model that can be downloaded from the hub, got ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(reference.importlib, "import_module", missing)
    with pytest.raises(
        InputError, match=r"must be downloaded with huggingface_hub\. Install it: pip install 'brf-exp\[models\]'"
    ):
        fetch(resolve_spec("org/model-a"))
