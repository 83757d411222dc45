"""Texts, models and ways to call the extraction script."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brf_exp.models.reference import EMBEDDED

WORDS = "the cat saw a red ball in the garden and it was very happy to play with its friend all day".split()
TEXTS = {
    "short": "The cat sat on the mat.",
    "accents": 'Ünïcödé "quoted", 日本語 and \U0001f642 end.',
    "code": "def main() -> int:\n    return 0 if run() else 1\n",
    "a,b": "Commas in a name, and a text of some more words than the others have.",
}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A few short documents."""
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"doc_id": doc_id, "text": text}) for doc_id, text in TEXTS.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Forty documents of different lengths, none of them equal, the last one longer than any context."""
    path = tmp_path / "many.jsonl"
    texts = [" ".join(WORDS[(n + 3 * i * (n % 5 + 1)) % len(WORDS)] for i in range(8 + n)) for n in range(39)]
    texts.append(" ".join(WORDS[i * i % len(WORDS)] for i in range(700)))
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def extract(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run the script in this process, an embedded model by its name; torch and transformers are left as they were."""
    torch = pytest.importorskip("torch")
    from transformers.utils import logging

    from brf_exp.standalone import extract_topk

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are so small that threads only wait for each other

    def run(model: str | Path, *arguments: object) -> int:
        folder = EMBEDDED / str(model)
        return extract_topk.main(["--model", str(folder if folder.is_dir() else model), *map(str, arguments)])

    yield run
    torch.set_num_threads(n_threads)
    logging.set_verbosity(level)
    if bars:
        logging.enable_progress_bar()


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A copy of an embedded model whose tokenizer has other settings."""

    def change(name: str, model: str = "tiny_prose", **settings: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(EMBEDDED / model, folder)
        path = folder / "tokenizer_config.json"
        kept = json.loads(path.read_text(encoding="utf-8")) | settings
        kept = {key: value for key, value in kept.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")
        return folder

    return change
