"""Captures of text that models write: one generates, the others score its tokens, and a pair comes to a verdict."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.capture.generated_texts import read_generated_texts
from brf_exp.cli import main
from brf_exp.config import (
    CaptureConfig,
    CaptureMode,
    CorpusConfig,
    GenerationConfig,
    ModelConfig,
    PairConfig,
    PairGenerationConfig,
    RecipeConfig,
    RunStageConfig,
)
from brf_exp.corpora.document import Document, fingerprint, read_texts
from brf_exp.corpora.load import load_documents
from brf_exp.errors import ConfigError, InputError
from brf_exp.stages import capture as stage
from brf_exp.stages.gap_rows import check_rows
from brf_exp.stages.pairs import resolve_pair
from brf_exp.stages.recapture import recaptured
from brf_exp.storage.captures import Capture, open_capture, sha256_of

SETTINGS = CaptureConfig(
    mode=CaptureMode.GENERATION, k=5, batch_tokens=120, min_context_tokens=4, rows_per_part=60, temperatures=[0.5]
)
GENERATION = GenerationConfig(prompt_tokens=10, new_tokens=14)
WORDS = "the of and model phase naïve logit 😀 coherent token".split()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two random byte-level models that end a text now and then."""
    from brf_exp.models.tiny import make_model, make_tokenizer

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "n_layers": 1, "n_heads": 2}
    recipe = RecipeConfig(byte_level=True, context_tokens=32, **sizes)
    folders = {}
    for seed, name in enumerate("ab"):
        folder = tmp_path_factory.mktemp("models") / f"writer_{name}"
        tokenizer = make_tokenizer([], byte_level=True)
        model = make_model(recipe, vocabulary_size=len(tokenizer) + 7, seed=seed)
        for parameter in model.parameters():
            parameter.data.mul_(6.0 if parameter.ndim > 1 else 1.0)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[name] = str(folder)
    return folders


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusConfig:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rng = np.random.default_rng(0)
    texts = ["é" + " ".join(rng.choice(WORDS, 1 + n % 5)) for n in range(30)]
    path.write_text("\n".join(json.dumps({"id": f"doc-{n}", "text": text}) for n, text in enumerate(texts)), "utf-8")
    return CorpusConfig(name="file", path=str(path), id_column="id")


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def captured(folder: str, corpus: CorpusConfig, runs_dir: Path, **more: Any) -> Capture:
    settings, generation = more.pop("settings", SETTINGS), more.pop("generation", GENERATION)
    model = ModelConfig("hf", id=folder)
    return open_capture(stage.capture(model, corpus, settings, generation=generation, runs_dir=runs_dir, **more))


@pytest.fixture(scope="module")
def written(models: dict[str, str], corpus: CorpusConfig, runs_dir: Path) -> Capture:
    """What model a writes."""
    return captured(models["a"], corpus, runs_dir)


@pytest.fixture(scope="module")
def scored(models: dict[str, str], corpus: CorpusConfig, runs_dir: Path, written: Capture) -> dict[str, Capture]:
    """What both models say of that, read in one pass."""
    generation = replace(GENERATION, tokens_of=str(written.folder))
    return {name: captured(folder, corpus, runs_dir, generation=generation) for name, folder in models.items()}


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_rows_and_texts(written: Capture, corpus: CorpusConfig) -> None:
    rows = written.read(["position", "token_id", "char_start", "char_end"])
    originals = {document.doc_id: document.text for document in load_documents(corpus)}
    texts = list(read_generated_texts(written.folder / "texts.jsonl"))
    index = written.documents
    assert index.doc_ids == tuple(originals) == tuple(text.doc_id for text in texts)
    assert read_texts(written.folder / "texts.jsonl") == {text.doc_id: text.text for text in texts}
    ended = 0
    for number, text in enumerate(texts):
        part = slice(index.offsets[number], index.offsets[number + 1])
        ids, first = rows["token_id"][part], len(text.prompt_ids)
        assert bytes(_bytes_of(text.prompt_ids)) == text.text[: text.prompt_chars].encode()
        assert originals[text.doc_id].startswith(text.text[: text.prompt_chars])
        assert first in (7, 8, 9, 10) or text.text[: text.prompt_chars] == originals[text.doc_id]
        np.testing.assert_array_equal(rows["position"][part], first + np.arange(ids.size))
        assert ids.size == 14 or ids[-1] == 256
        assert (ids[:-1] != 256).all()
        ended += int(ids[-1] == 256)
        spans = list(zip(rows["char_start"][part].tolist(), rows["char_end"][part].tolist(), strict=True))
        raw = bytes(_bytes_of(ids[ids != 256].tolist()))
        assert text.text[text.prompt_chars :] == raw.decode("utf-8", "replace")
        assert spans[0][0] == text.prompt_chars and spans[-1][1] == len(text.text)
        assert all(after[0] <= before[1] <= after[1] for before, after in zip(spans, spans[1:], strict=False))
        if ids[-1] == 256:
            assert spans[-1] == (len(text.text), len(text.text))
    assert 0 < ended < len(texts)


def _bytes_of(ids: list[int]) -> list[int]:
    """Bytes of the byte-level vocabulary, whose ids are in the order of the characters that stand for them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    symbols = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}
    order = sorted(symbols)
    return [symbols[order[i]] for i in ids]


def test_manifest(written: Capture) -> None:
    manifest = written.manifest
    assert manifest["mode"] == "generation"
    assert manifest["temperatures"] == [1.0, 0.5]
    assert manifest["generation"] == {
        "by": "writer_a",
        "settings": {"prompt_tokens": 10, "new_tokens": 14, "temperature": 1.0, "top_k": None, "top_p": 1.0},
        "seed": 0,
        "end_ids": [256],
        "first_positions": [manifest["first_position"], 10],
    }
    lengths = [len(text.prompt_ids) for text in read_generated_texts(written.folder / "texts.jsonl")]
    assert (manifest["first_position"], max(lengths)) == (min(lengths), 10)
    assert manifest["documents"] == 30 and len(manifest["parts"]) > 4
    texts = written.folder / "texts.jsonl"
    assert manifest["corpus"]["texts_sha256"] == sha256_of(texts)
    documents = [Document(doc_id, text) for doc_id, text in read_texts(texts).items()]
    assert manifest["corpus"]["fingerprint"] == fingerprint(documents)
    assert sorted(path.suffix for path in written.folder.iterdir() if path.suffix != ".parquet") == [".json", ".jsonl"]


def test_every_setting_and_the_seed_change_the_rows(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path
) -> None:
    few = replace(corpus, max_documents=4)
    first = captured(models["a"], few, tmp_path)
    made = {first.manifest["key"]: first.read(["token_id"])["token_id"].tolist()}
    changes = [{"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.5}, {"new_tokens": 5}, {"prompt_tokens": 4}]
    for more in [*({"generation": replace(GENERATION, **change)} for change in changes), {"seed": 1}]:
        other = captured(models["a"], few, tmp_path, **more)
        ids = other.read(["token_id"])["token_id"].tolist()
        assert other.manifest["key"] not in made and ids not in made.values()
        made[other.manifest["key"]] = ids


def test_neither_seed_nor_settings_count_where_nothing_is_generated(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, mode=CaptureMode.TEACHER_FORCED)
    first = captured(models["a"], corpus, tmp_path, settings=settings)
    again = captured(models["a"], corpus, tmp_path, settings=settings, seed=5, generation=replace(GENERATION, top_k=3))
    assert first.folder == again.folder and first.manifest["mode"] == "teacher_forced"


def test_parts_do_not_depend_on_each_other(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path, written: Capture
) -> None:
    one = captured(models["a"], corpus, tmp_path, settings=replace(SETTINGS, rows_per_part=10_000))
    assert len(one.manifest["parts"]) == 1
    for name in ("token_id", "position", "char_start", "char_end"):
        np.testing.assert_array_equal(one.read([name])[name], written.read([name])[name])
    np.testing.assert_allclose(one.top_k()[1], written.top_k()[1], atol=1e-4)
    assert (one.folder / "texts.jsonl").read_bytes() == (written.folder / "texts.jsonl").read_bytes()


def test_shards_make_the_same_capture(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path, written: Capture
) -> None:
    for shard in ("2/3", "1/3", "3/3"):
        folder = stage.capture(
            ModelConfig("hf", id=models["a"]), corpus, replace(SETTINGS, shard=shard),
            generation=GENERATION, runs_dir=tmp_path,
        )  # fmt: skip
    assert folder.name == written.folder.name
    assert parts_of(folder) == parts_of(written.folder)
    manifests = [open_capture(each).manifest | {"environment": None} for each in (folder, written.folder)]
    assert manifests[0] == manifests[1]


KILLED = """
from brf_exp.config import GenerationConfig

def generate(runs_dir):
    corpus = CorpusConfig(name="file", path=texts, id_column="id")
    settings = CaptureConfig(mode="generation", k=3, batch_tokens=64, min_context_tokens=4, rows_per_part=60)
    generation = GenerationConfig(prompt_tokens=12, new_tokens=12)
    return stage.capture(ModelConfig("hf", id=model), corpus, settings, generation=generation, runs_dir=Path(runs_dir))

def doomed(runs_dir, n_parts):
    def note(event, parameters):
        if event == "os.rename" and len(list(Path(runs_dir).glob("captures/*/*.partial/part-*.json"))) == n_parts:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(note)
    generate(runs_dir)

warmed()
place = Path(arguments[0])
assert os.waitpid(child(lambda: generate(place / "whole")), 0)[1] == 0
whole = content(place / "whole")
for n_parts in (1, 3, 5):
    runs_dir = place / f"killed-{n_parts}"
    assert os.waitpid(child(lambda: doomed(runs_dir, n_parts)), 0)[1] == signal.SIGKILL
    assert len(list(runs_dir.glob("captures/*/*.partial/part-*.json"))) == n_parts
    assert os.waitpid(child(lambda: generate(runs_dir)), 0)[1] == 0
    assert content(runs_dir) == whole
"""


def test_killed_and_gone_on(capturing: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = capturing(KILLED, tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_another_model_scores_the_same_rows(written: Capture, scored: dict[str, Capture]) -> None:
    ours = written.read(["position", "token_id", "char_start", "char_end"])
    for capture in scored.values():
        assert capture.documents.doc_ids == written.documents.doc_ids
        theirs = capture.read(list(ours))
        for name, values in ours.items():
            np.testing.assert_array_equal(theirs[name], values, err_msg=name)
        assert (capture.folder / "texts.jsonl").read_bytes() == (written.folder / "texts.jsonl").read_bytes()
        assert capture.manifest["mode"] == "teacher_forced"
        assert capture.manifest["generation"] == written.manifest["generation"]
        assert capture.manifest["tokens_of"] == {"model": "writer_a", "key": written.manifest["key"]}
        corpora = [each.manifest["corpus"] for each in (capture, written)]
        assert corpora[0] == corpora[1]


def test_reading_gives_the_logits_of_writing(written: Capture, scored: dict[str, Capture]) -> None:
    for name in ("logsumexp", "logsumexp_t0.5", "target_logit", "entropy", "logit_1", "logit_5"):
        ours = written.read([name])[name]
        np.testing.assert_allclose(scored["a"].read([name])[name], ours, atol=1e-4, rtol=0, err_msg=name)
        assert np.abs(scored["b"].read([name])[name] - ours).max() > 0.02
    np.testing.assert_array_equal(scored["a"].top_k()[0], written.top_k()[0])


def test_the_first_rows_alone(models: dict[str, str], corpus: CorpusConfig, runs_dir: Path, written: Capture) -> None:
    generation = replace(GENERATION, tokens_of=str(written.folder))
    cut = captured(models["b"], replace(corpus, max_tokens=100), runs_dir, generation=generation)
    assert cut.n_rows == 100
    ids = written.read(["token_id"])["token_id"][:100]
    np.testing.assert_array_equal(cut.read(["token_id"])["token_id"], ids)
    ends = cut.read(["char_end"])["char_end"][cut.documents.offsets[1:] - 1]
    assert [len(text) for text in read_texts(cut.folder / "texts.jsonl").values()] == ends.tolist()


def test_at_most_so_many_tokens_are_generated(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path, written: Capture
) -> None:
    cut = captured(models["a"], replace(corpus, max_tokens=100), tmp_path)
    assert len(cut.documents.doc_ids) == 8 and cut.n_rows <= 7 * 14 + 2
    assert cut.documents.lengths[-1] <= 2
    n = int(cut.documents.offsets[-2])
    np.testing.assert_array_equal(cut.read(["token_id"])["token_id"][:n], written.read(["token_id"])["token_id"][:n])


def test_a_capture_of_given_texts_has_no_tokens_to_score(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path
) -> None:
    plain = captured(models["a"], corpus, tmp_path, settings=replace(SETTINGS, mode=CaptureMode.TEACHER_FORCED))
    message = r"`generation\.tokens_of` must be a capture of generated tokens, got one of writer_a with mode 'teacher_"
    with pytest.raises(ConfigError, match=message):
        captured(models["b"], corpus, tmp_path, generation=replace(GENERATION, tokens_of=str(plain.folder)))


def test_no_prompt(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("😀😀", encoding="utf-8")
    corpus = CorpusConfig(name="file", path=str(tmp_path / "texts.txt"))
    with pytest.raises(InputError, match="must have text that gives writer_a a prompt to go on from, got none"):
        captured(models["a"], corpus, tmp_path, generation=replace(GENERATION, prompt_tokens=3))
    assert not list(tmp_path.glob("captures/*/[!.]*"))


def run_config(models: dict[str, str], corpus: CorpusConfig, runs_dir: Path, **more: Any) -> RunStageConfig:
    return RunStageConfig(
        pair=PairConfig(name="hf", a=models["a"], b=models["b"], proxy=more.pop("proxy", "none")),
        corpus=corpus,
        capture=SETTINGS,
        generation=PairGenerationConfig(**asdict(GENERATION) | more),
        runs_dir=str(runs_dir),
        progress=False,
    )


@pytest.mark.parametrize("by", ["a", "b"])
def test_a_pair(by: str, models: dict[str, str], corpus: CorpusConfig, tmp_path: Path) -> None:
    config = run_config(models, corpus, tmp_path, by=by)
    inputs = resolve_pair(config)
    check_rows(inputs)
    assert [capture.manifest["generation"]["by"] for capture in inputs.captures] == [f"writer_{by}"] * 2
    modes = [capture.manifest["mode"] for capture in inputs.captures]
    assert modes == (["generation", "teacher_forced"] if by == "a" else ["teacher_forced", "generation"])
    assert inputs.corpus_name == f"texts.jsonl continued by writer_{by}"
    assert inputs.texts is not None and inputs.captures[0].folder in inputs.texts.parents


def test_the_second_capture_scores_the_first_one_s_tokens(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path
) -> None:
    config = run_config(models, corpus, tmp_path)
    config.recapture.max_tokens = 200
    inputs = resolve_pair(config)
    again = recaptured(config, inputs).inputs
    assert again is not None
    for first, second in zip(inputs.captures, again.captures, strict=True):
        assert second.manifest["mode"] == "teacher_forced" and second.manifest["dtype"]["forward"] == "bfloat16"
        assert second.n_rows == 200
        ids = [capture.read(["token_id"])["token_id"][:200] for capture in (first, second)]
        np.testing.assert_array_equal(*ids)


def test_models_that_read_other_ids(models: dict[str, str], corpus: CorpusConfig, tmp_path: Path) -> None:
    config = run_config(models | {"b": "tiny_prose"}, corpus, tmp_path)
    message = (
        r"`tiny_prose` must have the tokenizer of writer_a, whose generated tokens it is to score, got another one\. "
        r"Choose models that share their token ids, or capture\.mode=teacher_forced\."
    )
    with pytest.raises(ConfigError, match=message):
        resolve_pair(config)
    assert not (tmp_path / "captures").exists()  # said before anything is generated


def test_scoring_with_another_tokenizer(corpus: CorpusConfig, tmp_path: Path, written: Capture) -> None:
    generation = replace(GENERATION, tokens_of=str(written.folder))
    with pytest.raises(ConfigError, match="`tiny_prose` must have the tokenizer of writer_a"):
        stage.capture(ModelConfig("tiny_prose"), corpus, SETTINGS, generation=generation, runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["capture.mode=sampling"], "`capture.mode` must be one of generation, teacher_forced, got 'sampling'."),
        (
            ["generation.temperature=0.5"],
            "`capture.mode` must be generation where generation.temperature is set, got 'teacher_forced'. "
            "Add capture.mode=generation.",
        ),
        (["generation.temperature=-1"], "`generation.temperature` must be 0 or from 0.001 to 1000, got -1.0."),
        (["generation.temperature=nan"], "`generation.temperature` must be 0 or from 0.001 to 1000, got nan."),
        (["generation.top_p=0"], "`generation.top_p` must be above 0 and at most 1, got 0.0."),
        (["generation.top_k=0"], "`generation.top_k` must be at least 1, got 0."),
        (["generation.new_tokens=0"], "`generation.new_tokens` must be at least 1, got 0."),
        (["generation.prompt_tokens=0"], "`generation.prompt_tokens` must be at least 1, got 0."),
        (
            ["capture.mode=generation", "generation.new_tokens=200"],
            "`generation.prompt_tokens` and `generation.new_tokens` must be at most 256 together, the context of "
            "tiny_prose within capture.context_tokens, got 64 and 200. Lower one of them.",
        ),
        (
            ["capture.mode=generation", "generation.tokens_of=nowhere"],
            "must be a capture folder with a capture.json, got none. Make one with `brf-exp capture`.",
        ),
    ],
)
def test_one_line_for_bad_settings(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capture", "model=tiny_prose", "corpus.max_documents=2", f"runs_dir={tmp_path}", *overrides]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and message in printed.err
    assert not list(tmp_path.glob("captures/*/*"))


def test_which_of_the_pair(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["coherence", "capture.mode=generation", "generation.by=c", f"runs_dir={tmp_path}"]) == 2
    assert "`generation.by` must be one of a, b, got 'c'." in capsys.readouterr().err


def test_a_pair_comes_to_a_verdict(
    models: dict[str, str], corpus: CorpusConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [
        "pair=hf", f"pair.a={models['a']}", f"pair.b={models['b']}", "proxy=none", f"corpus={corpus.path}",
        "corpus.id_column=id", "capture.mode=generation", "generation.prompt_tokens=10", "generation.new_tokens=14",
        "capture.k=5", "capture.min_context_tokens=4", "evaluation.n_resamples=99", "evaluation.n_repairings=99",
        "evaluation.n_negative_controls=5", "evaluation.controls=false", f"runs_dir={tmp_path}",
    ]  # fmt: skip
    assert main(["discriminate", *wanted]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["noise_floor"]["dtype"] == "bfloat16" and results["noise_floor"]["n_positions"] > 300
    assert (results["verdict"], results["reason"]) == ("inconclusive", "controls")
    made = {path: json.loads(path.read_text()) for path in tmp_path.glob("captures/writer_a/*/capture.json")}
    (written,) = (path for path, manifest in made.items() if manifest["mode"] == "generation")
    capsys.readouterr()
    direct = ["capture", "model=hf", f"model.id={models['b']}", "capture.mode=generation", "capture.k=5"]
    direct += ["capture.min_context_tokens=4", f"generation.tokens_of={written.parent}", f"runs_dir={tmp_path}"]
    assert main(direct) == 0
    found = open_capture(Path(capsys.readouterr().out.splitlines()[-1]))
    assert found.manifest["tokens_of"]["key"] == made[written]["key"]
