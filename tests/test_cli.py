"""The command line: help without heavy imports, one-line errors, paths as typed, sweeps."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import brf_exp
from brf_exp.cli import main
from brf_exp.config import STAGES, AnalysisStageConfig, CaptureConfig, CaptureStageConfig, Split, StageConfig
from brf_exp.errors import InputError
from brf_exp.settings import settings_of

HEAVY = ("hydra", "omegaconf", "numpy", "torch", "pyarrow", "pandas", "matplotlib", "transformers")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[StageConfig]:
    """Every stage replaced by one that keeps its config; some seeds fail on purpose."""
    configs: list[StageConfig] = []

    def run(config: StageConfig) -> Path:
        if config.seed == 7:
            raise InputError("`seed` must not be 7,\ngot 7.")
        if config.seed == 8:
            raise RuntimeError("a bug")
        if config.seed == 9:
            raise KeyboardInterrupt
        if config.seed == 10:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        configs.append(config)
        return Path(config.runs_dir) / f"made-{config.seed}"

    for stage in STAGES:
        module = types.ModuleType(f"brf_exp.stages.{stage.replace('-', '_')}")
        monkeypatch.setattr(module, "run", run, raising=False)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    # A child's configs would be out of sight.
    monkeypatch.setattr("brf_exp.sweeps.run._may_fork", lambda: False)
    monkeypatch.chdir(tmp_path)
    return configs


@pytest.fixture
def compose(seen: list[StageConfig]) -> Callable[..., StageConfig]:
    """The config a stage is given for a command line."""

    def composed(*arguments: str) -> StageConfig:
        assert main(arguments) == 0
        return seen[-1]

    return composed


def _ingest(name: str, runs_dir: Path = Path("runs")) -> Path:
    folder = runs_dir / "submissions" / name
    folder.mkdir(parents=True)
    (folder / "pair.json").write_text("{}")
    return folder.absolute()


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


# --- help ---------------------------------------------------------------------------------------------------------


def test_alone_it_lists_every_stage_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for stage, schema in STAGES.items():
        assert any(line.split() == [stage, *str(schema.__doc__).split()] for line in out.splitlines())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"brf-exp {brf_exp.__version__}\n"


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_every_setting_with_its_comment(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([stage, "--help"]) == 0
    out = capsys.readouterr().out
    for setting in settings_of(STAGES[stage]).values():
        assert setting.comment
        assert any(line.startswith(f"  {setting.key}=") and line.endswith(setting.comment) for line in out.splitlines())


def test_help_shows_options_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coherence", "-h"]) == 0
    out = capsys.readouterr().out
    assert "  pair=gpt2-distilgpt2" in out
    assert "  phase=tanh" in out
    assert "  evaluation.split=cross_fit" in out
    assert "  evaluation.tune=true" in out
    assert "  proxy=null" in out


@pytest.mark.parametrize("arguments", [[], ["--version"], ["run", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from brf_exp.cli import main; main({}); "
        "print([name for name in {} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.format(arguments, HEAVY)], capture_output=True, text=True, check=True
    )
    assert done.stdout
    assert done.stderr.strip() == "[]"


def test_running_loads_hydra_but_neither_torch_nor_numpy_by_itself() -> None:
    loaded = _python(
        "import sys, brf_exp.compose; print([n for n in ('hydra', 'numpy', 'torch', 'pyarrow') if n in sys.modules])"
    )
    assert loaded.strip() == "['hydra']"


# --- what a stage is given ----------------------------------------------------------------------------------------


def test_defaults_come_from_the_dataclasses(compose: Callable[..., StageConfig]) -> None:
    config = compose("audit")
    assert config == STAGES["audit"](runs_dir=str(Path("runs").absolute()))


@pytest.mark.parametrize("stage", ["run", "coherence", "discriminate"])
def test_the_tiny_pair_is_the_default(stage: str, compose: Callable[..., StageConfig]) -> None:
    config = compose(stage)
    assert isinstance(config, AnalysisStageConfig)
    assert (config.pair.a, config.pair.b, config.pair.proxy) == ("tiny_prose", "tiny_code", "tiny_mixed")
    assert config.capture.k == 128
    assert config.corpus.max_document_tokens == 256


def test_the_made_folder_is_the_last_line_and_absolute(
    compose: Callable[..., StageConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    compose("audit", "seed=3", "runs_dir=here")
    assert capsys.readouterr().out.splitlines()[-1] == str(Path("here/made-3").absolute())


def test_a_single_run_writes_nothing_of_its_own(compose: Callable[..., StageConfig], tmp_path: Path) -> None:
    compose("run")
    assert list(tmp_path.iterdir()) == []


def test_enums_are_read_by_their_value(compose: Callable[..., StageConfig]) -> None:
    config = compose("run", "evaluation.split=none", "capture.dtype=bfloat16")
    assert isinstance(config, AnalysisStageConfig)
    assert config.evaluation.split is Split.NONE
    assert config.capture.dtype.value == "bfloat16"


@pytest.mark.parametrize(
    "path",
    [
        "a,b",
        "a=b",
        "a (1)",
        "with blank",
        "it's",
        'say "x"',
        "[a]",
        "{a: b}",
        "C:\\models\\",
        "a\\'b",
        "${oc.env:HOME}",
        "1e5",
        "true",
        "ünï",
        "#x",
        "a%b;c&d",
    ],
)
def test_paths_reach_the_stage_as_typed(path: str, compose: Callable[..., StageConfig]) -> None:
    config = compose("run", "pair=hf", f"pair.a={path}", f"pair.b=x/{path}", f"proxy={path}", f"runs_dir={path}")
    assert isinstance(config, AnalysisStageConfig)
    assert (config.pair.a, config.pair.b, config.proxy) == (path, f"x/{path}", path)
    assert config.runs_dir == str(Path(path).absolute())


@pytest.mark.parametrize(("stage", "key"), [("ingest", "submission"), ("claims", "run"), ("report", "run")])
def test_the_other_path_settings_are_quoted_too(stage: str, key: str, compose: Callable[..., StageConfig]) -> None:
    assert getattr(compose(stage, f"{key}=a, b=(c)"), key) == "a, b=(c)"


def test_a_commit_of_digits_stays_text(compose: Callable[..., StageConfig]) -> None:
    config = compose("run", "pair.a_revision=12345e7")
    assert isinstance(config, AnalysisStageConfig)
    assert config.pair.a_revision == "12345e7"


def test_null_is_null(compose: Callable[..., StageConfig]) -> None:
    config = compose("run", "pair.proxy=null")
    assert isinstance(config, AnalysisStageConfig)
    assert config.pair.proxy is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("[a,b]", ["a", "b"]),
        ("[ a , b ]", ["a", "b"]),
        ("[]", []),
        ("[x,1,y=(2)]", ["x,1", "y=(2)"]),
        ("[x,1,it's]", ["x,1", "it's"]),
        ("['x,1','b']", ["x,1", "b"]),
        ("[x,1,b,y=(2)]", ["x,1", "b", "y=(2)"]),
        ("[b, x,1 ,it's,y=(2)]", ["b", "x,1", "it's", "y=(2)"]),
        ("[b,x,1,x,1]", ["b", "x,1", "x,1"]),
        ("[b,c]", ["b", "c"]),
        ("[b,c,b]", ["b,c", "b"]),
    ],
)
def test_captures(typed: str, expected: list[str], compose: Callable[..., StageConfig]) -> None:
    for name in ("x,1", "y=(2)", "it's", "b", "b,c"):
        Path(name).mkdir()
    config = compose("coherence", f"captures={typed}")
    assert isinstance(config, AnalysisStageConfig)
    assert config.captures == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("[]", []),
        ("[tiny_mixed]", ["tiny_mixed"]),
        ("[tiny_mixed, org/name-1.5b ,nowhere]", ["tiny_mixed", "org/name-1.5b", "nowhere"]),
        ("[my models/x,1 (a=b),tiny_code]", ["my models/x,1 (a=b)", "tiny_code"]),
        ("[models/x,y/z,org/name]", ["models/x,y/z", "org/name"]),
        ("[it's,${oc.env:HOME}]", ["it's", "${oc.env:HOME}"]),
        (f"[{','.join(['tiny_mixed'] * 40)}]", ["tiny_mixed"] * 40),
    ],
)
def test_more_models(typed: str, expected: list[str], compose: Callable[..., StageConfig]) -> None:
    for name in ("my models/x,1 (a=b)", "models/x,y/z"):
        Path(name).mkdir(parents=True)
    config = compose("run", "pair=hf", "pair.a=x", "pair.b=y", f"pair.others={typed}")
    assert isinstance(config, AnalysisStageConfig)
    assert config.pair.others == expected


def test_a_home_folder_is_meant_in_lists_too(compose: Callable[..., StageConfig]) -> None:
    config = compose("coherence", "captures=[~/a,~/b]", "pair.others=[~/c]")
    assert isinstance(config, AnalysisStageConfig)
    assert config.captures == [str(Path.home() / name) for name in "ab"]
    assert config.pair.others == [str(Path.home() / "c")]


def test_a_sweep_over_lists_of_captures(seen: list[StageConfig]) -> None:
    for name in ("a", "b,1", "c"):
        Path(name).mkdir()
    assert main(["coherence", "-m", "captures=[a,b,1],[a,b,1,c]"]) == 0
    assert [config.captures for config in seen] == [["a", "b,1"], ["a", "b,1", "c"]]  # type: ignore[attr-defined]


def test_the_three_models_of_tiny3(compose: Callable[..., StageConfig]) -> None:
    config = compose("coherence", "pair=tiny3")
    assert isinstance(config, AnalysisStageConfig)
    pair = config.pair
    assert (pair.a, pair.b, pair.others, pair.proxy) == ("tiny_prose", "tiny_code", ["tiny_mixed"], None)
    assert config.capture.k == 128


@pytest.mark.parametrize("name", ["texts.jsonl", "some/folder/texts", "a, b=(c).txt", "./plain"])
def test_a_file_is_a_corpus(name: str, compose: Callable[..., StageConfig]) -> None:
    config = compose("capture", f"corpus={name}", "corpus.text_column=body")
    assert isinstance(config, CaptureStageConfig)
    assert (config.corpus.name, config.corpus.path, config.corpus.text_column) == ("file", name, "body")
    assert config.corpus.max_document_tokens is None


def test_an_existing_file_without_a_suffix_is_a_corpus(compose: Callable[..., StageConfig]) -> None:
    Path("notes").write_text("text")
    config = compose("capture", "corpus=notes")
    assert isinstance(config, CaptureStageConfig)
    assert config.corpus.path == "notes"


def test_an_ingested_submission_is_a_pair(compose: Callable[..., StageConfig]) -> None:
    folder = _ingest("my-pair", Path("else where"))
    config = compose("coherence", "pair=my-pair", "runs_dir=else where")
    assert isinstance(config, AnalysisStageConfig)
    assert (config.pair.name, config.pair.submission) == ("my-pair", str(folder))
    assert config.capture.k == 50


def test_a_folder_of_own_options(compose: Callable[..., StageConfig], tmp_path: Path) -> None:
    # A name of its own: options stored by other tests of this process stay in Hydra's store.
    for group, text in {"pair": "name: homemade\na: x\nb: y\n", "experiment": "# @package _global_\nseed: 5\n"}.items():
        (tmp_path / "own" / group).mkdir(parents=True)
        (tmp_path / "own" / group / "homemade.yaml").write_text(text)
    config = compose("run", "--config-dir", "own", "pair=homemade", "+experiment=homemade")
    assert isinstance(config, AnalysisStageConfig)
    assert (config.pair.a, config.seed) == ("x", 5)


def test_cfg_prints_the_settings_and_runs_nothing(seen: list[StageConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cfg", "job", "seed=4"]) == 0
    out = capsys.readouterr().out
    assert "seed: 4" in out
    assert "split: cross_fit" in out
    assert seen == []


# --- one line, exit code 2, nothing written -------------------------------------------------------------------------

KEYS_OF_CAPTURE = ", ".join(sorted(field.name for field in dataclasses.fields(CaptureConfig)))
KEYS_OF_AUDIT = "n_distributions, progress, runs_dir, seed, vocabulary_size"
PHASES = "arctan, exponential, linear, quantile, table, tanh"
ERRORS = {
    "runn": f"`stage` must be one of {', '.join(sorted(STAGES))}, got 'runn'. Did you mean `run`?",
    "-m run": f"`stage` must be one of {', '.join(sorted(STAGES))}, "
    "got '-m'. The stage comes first; `brf-exp` alone lists them.",
    "run capture.kk=3": f"`capture.kk` must be one of `capture`'s settings ({KEYS_OF_CAPTURE}), got 'kk'. "
    "Did you mean `capture.k`?",
    "audit +typo=3": f"`typo` must be one of the settings of `audit` ({KEYS_OF_AUDIT}), got 'typo'. "
    "`brf-exp audit --help` lists them.",
    "audit ++sed=3": f"`sed` must be one of the settings of `audit` ({KEYS_OF_AUDIT}), got 'sed'. Did you mean `seed`?",
    "audit pair=tiny": f"`pair` must be one of the settings of `audit` ({KEYS_OF_AUDIT}), got 'pair'. "
    "`brf-exp audit --help` lists them.",
    "audit +x._target_=os.system": "`x._target_` must be a setting of `audit`, got an object to build. Leave it out.",
    "audit +hydra.callbacks.x._target_=os.system": "`hydra.callbacks.x._target_` must be a setting of `audit`, "
    "got an object to build. Leave it out.",
    "audit foo": "`foo` must be of the form key=value, got no `=`.",
    "audit --config-dir nowhere": "`--config-dir` must be a folder of YAML options, got 'nowhere'.",
    "run phase=tan": f"`phase` must be one of {PHASES}, got 'tan'. Did you mean `tanh`?",
    "run phase=arctan,tanh": f"`phase` must be one of {PHASES}, got 'arctan,tanh'. Add -m to run one after the other.",
    "run -m phase=nope,tanh": f"`phase` must be one of {PHASES}, got 'nope'.",
    "run corpus=nothing": "`corpus` must be one of file, hub, stdlib, or a file's path, got 'nothing'.",
    "run evaluation=fast": "`evaluation` must be set by its keys (evaluation.confidence_level, evaluation.controls, "
    "evaluation.delta_nats, evaluation.min_documents, evaluation.n_folds, evaluation.n_negative_controls, "
    "evaluation.n_repairings, evaluation.n_resamples, evaluation.split, evaluation.tune), got 'fast'.",
    "run captures=a": "`captures` must be a list of two or more folders, [A,B], got 'a'.",
    "run captures=[a]": "`captures` must be a list of two or more folders that exist, [A,B], got '[a]'.",
    "run captures=[a,b,c]": "`captures` must be a list of two or more folders that exist, [A,B], got '[a,b,c]'.",
    "run captures=[a,]": "`captures` must be a list of two or more folders that exist, [A,B], got '[a,]'.",
    "run pair.others=a": "`pair.others` must be a list of models, [A,B], got 'a'.",
    "run pair.others=[a,,b]": "`pair.others` must be a list of models, [A,B], got '[a,,b]'.",
    "run capture.k=many": "`capture.k` must be a whole number, got 'many'.",
    "run phase.scale=wide": "`phase.scale` must be a number or null, got 'wide'.",
    "run evaluation.tune=perhaps": "`evaluation.tune` must be true or false, got 'perhaps'.",
    "run evaluation.split=half": "`evaluation.split` must be one of cross_fit, none, got 'half'.",
    "run -m seed=1,x": "`seed` must be a whole number, got 'x'.",
    "capture capture.temperatures=2": "`capture.temperatures` must be a list of numbers, [0.7,1.5], got '2'.",
    "capture -m capture.temperatures=2,3": "`capture.temperatures` must be a list of numbers, [0.7,1.5], got '2,3'.",
    "capture device=cuba": "`device` must be one of cpu, cuda, mps, got 'cuba'. Did you mean `cuda`?",
    "capture capture.mode=generation generation.tokens_of=x generation.temperature=0.5": "`generation.temperature` "
    "must be left out with generation.tokens_of, whose tokens are generated already, got 0.5.",
    "audit runs_dir=": "`runs_dir` must be a folder, got nothing. Leave it out for `runs`.",
    "audit runs_dir=/dev/null/x": "`runs_dir` must be a folder or lie in one, got '/dev/null/x', "
    "and '/dev/null' is none.",
    "audit -m seed=1,2 hydra/launcher=nope": "In 'hydra/config': Could not find 'hydra/launcher/nope' "
    "Available options in 'hydra/launcher': basic joblib local slurm submitit_local submitit_slurm",
    "run seed=7": "`seed` must not be 7, got 7.",
    "run seed=10": "`run` must have the package torch, got none. Install it with `pip install 'brf-exp[models]'`.",
}


@pytest.mark.parametrize("command", ERRORS)
@pytest.mark.usefixtures("seen")
def test_errors_are_one_line(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"brf-exp: {ERRORS[command]}\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("seen")
def test_an_unknown_pair_lists_shipped_and_ingested(capsys: pytest.CaptureFixture[str]) -> None:
    _ingest("mine")
    assert main(["run", "pair=mime"]) == 2
    assert capsys.readouterr().err == (
        "brf-exp: `pair` must be one of gpt2-distilgpt2, hf, llama-3.2-1b-3b, pythia-410m-1b, pythia-70m-160m, "
        "qwen2.5-0.5b-1.5b, smollm2-135m-360m, tiny, tiny3, or an ingested submission (mine), got 'mime'. "
        "Did you mean `mine`?\n"
    )


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("argument", ["--frob", "--experimental-rerun=x.pickle"])
def test_an_unknown_flag_is_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", argument]) == 2
    assert capsys.readouterr().err.startswith(f"brf-exp: `{argument}` must be key=value or one of --cfg, ")


@pytest.mark.usefixtures("seen")
def test_what_hydra_refuses_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "seed=[1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("brf-exp: ")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("seen")
def test_a_key_from_an_own_file_is_refused_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "typo.yaml").write_text("# @package _global_\ncapture:\n  kk: 5\n")
    assert main(["run", "--config-dir=own", "+experiment=typo"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("brf-exp: ")
    assert "kk" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("seen")
def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        main(["audit", "seed=8"])


@pytest.mark.usefixtures("seen")
def test_an_interrupt_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "seed=9"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_the_process_exits_with_the_code() -> None:
    done = subprocess.run([sys.executable, "-m", "brf_exp", "audit", "sed=1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("brf-exp: `sed` must be")


# --- sweeps: what becomes of a command line; how jobs are run and watched is in tests/sweeps ------------------------


def test_a_sweep_runs_every_combination(seen: list[StageConfig], capsys: pytest.CaptureFixture[str]) -> None:
    _ingest("mine")
    assert main(["coherence", "-m", "pair=tiny,mine", "phase=arctan,tanh", "seed=1,2"]) == 0
    configs = [c for c in seen if isinstance(c, AnalysisStageConfig)]
    assert {(c.pair.name, c.phase.name, c.seed) for c in configs} == {
        (pair, phase, seed) for pair in ("tiny", "mine") for phase in ("arctan", "tanh") for seed in (1, 2)
    }
    *made, last = capsys.readouterr().out.splitlines()
    assert len(made) == 8
    assert Path(last).parent == Path("runs/sweeps").absolute()
    assert {path.name for path in Path(last).iterdir()} > {"sweep.json", "sweep.csv"}


def test_a_sweep_over_paths(seen: list[StageConfig]) -> None:
    Path("one, two").mkdir()
    assert main(["report", "-m", "run=one, two"]) == 0
    assert main(["report", "--multirun", "run=a b,c=(d)"]) == 0
    assert [getattr(config, "run", None) for config in seen] == ["one, two", "a b", "c=(d)"]


def test_a_sweep_over_files(seen: list[StageConfig]) -> None:
    assert main(["capture", "-m", "corpus=a.txt,b=(1).csv,stdlib"]) == 0
    paths = [config.corpus.path for config in seen if isinstance(config, CaptureStageConfig)]
    assert paths == ["a.txt", "b=(1).csv", None]


def test_a_sweep_goes_on_after_a_failure(seen: list[StageConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "-m", "seed=7,1", "n_distributions=5,-1"]) == 2
    assert [config.seed for config in seen] == [1]
    lines = capsys.readouterr().err.splitlines()
    # Settings that no stage could use are known before any job starts.
    assert lines[1:4] == [
        "[1/4] failed  seed=7 n_distributions=-1: `n_distributions` must be at least 1, got -1.",
        "[2/4] failed  seed=1 n_distributions=-1: `n_distributions` must be at least 1, got -1.",
        f"[3/4] failed  seed=7 n_distributions=5  {_seconds(lines[3])} s: `seed` must not be 7, got 7.",
    ]
    statuses = [json.loads(path.read_text()) for path in Path("runs/sweeps").glob("audit-*/*/status.json")]
    assert sorted(status["exit_code"] for status in statuses) == [0, 2, 2, 2]


def _seconds(line: str) -> str:
    [seconds] = re.findall(r"  (\d+\.\d) s", line)
    return str(seconds)


def test_a_bug_in_a_sweep_shows_its_traceback_and_exits_1(
    seen: list[StageConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "-m", "seed=8,7,1"]) == 1
    assert [config.seed for config in seen] == [1]
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_equal_combinations_are_one_job(seen: list[StageConfig]) -> None:
    assert main(["audit", "-m", "seed=1,1", "n_distributions=10,1_0"]) == 0
    assert len(seen) == 1


def test_an_experiment_file_is_a_sweep(seen: list[StageConfig]) -> None:
    assert main(["run", "-m", "+experiment=maps"]) == 0
    names = [config.phase.name for config in seen if isinstance(config, AnalysisStageConfig)]
    assert names == ["arctan", "exponential", "linear", "quantile", "tanh"]
    assert main(["run", "-m", "+experiment=maps", "phase=tanh", "seed=1,2"]) == 0
    assert [config.seed for config in seen[5:]] == [1, 2]


def test_an_own_experiment_file_is_read_as_if_typed(seen: list[StageConfig], tmp_path: Path) -> None:
    _ingest("mine")
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    params = "{pair: [tiny, mine], corpus: 'a=(1).txt', proxy: 'x y'}"
    text = f"# @package _global_\nseed: 3\nhydra: {{sweeper: {{params: {params}}}}}\n"
    (tmp_path / "own" / "experiment" / "typed.yaml").write_text(text)
    assert main(["coherence", "-m", "--config-dir", "own", "+experiment=typed"]) == 0
    configs = [config for config in seen if isinstance(config, AnalysisStageConfig)]
    assert [config.pair.name for config in configs] == ["tiny", "mine"]
    assert {(c.corpus.path, c.proxy, c.seed) for c in configs} == {("a=(1).txt", "x y", 3)}


@pytest.mark.usefixtures("seen")
def test_an_experiment_file_without_m_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "+experiment=maps"]) == 2
    assert capsys.readouterr().err == (
        "brf-exp: `-m` must be given for an experiment that is a sweep (over phase), got a single run.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("seen")
def test_a_key_of_an_experiment_file_is_refused_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra: {sweeper: {params: {sed: [1, 2]}}}\n"
    (tmp_path / "own" / "experiment" / "wrong.yaml").write_text(text)
    assert main(["audit", "-m", "--config-dir", "own", "+experiment=wrong"]) == 2
    assert "`sed` must be one of the settings of `audit`" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_launcher_changes_neither_the_folder_nor_what_is_done(seen: list[StageConfig]) -> None:
    assert main(["audit", "-m", "seed=1,2"]) == 0
    for config in seen:
        (Path(config.runs_dir) / f"made-{config.seed}").mkdir(exist_ok=True)
    assert main(["audit", "-m", "seed=1,2", "hydra/launcher=basic", "progress=false"]) == 0
    assert len(list(Path("runs/sweeps").iterdir())) == 1
    assert len(seen) == 2


def test_a_file_that_changed_makes_another_job(seen: list[StageConfig]) -> None:
    command = ["capture", "-m", "corpus=a.txt", "seed=1,2"]
    Path("runs").mkdir()
    for seed in (1, 2):
        (Path("runs") / f"made-{seed}").mkdir()
    Path("a.txt").write_text("one")
    assert main(command) == 0
    assert main(command) == 0
    assert len(seen) == 2
    Path("a.txt").write_text("another")
    assert main(command) == 0
    assert len(seen) == 4


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize(("launcher", "package"), [("joblib", "joblib"), ("slurm", "submitit"), ("local", "submitit")])
def test_a_launcher_that_is_not_installed_is_named(
    launcher: str, package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    missing = f"hydra_plugins.hydra_{package}_launcher"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == missing else known(name, *more)
    )
    assert main(["audit", "-m", "seed=1,2", f"hydra/launcher={launcher}"]) == 2
    assert capsys.readouterr().err == (
        f"brf-exp: `hydra/launcher` must have its package installed for {launcher}, got none. "
        "Install it with `pip install 'brf-exp[sweeps]'`.\n"
    )
