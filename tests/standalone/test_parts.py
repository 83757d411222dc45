"""The extraction script's parts beside those of a capture, and what it may need."""

import ast
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.capture import windows
from brf_exp.paths import PACKAGE, conf_dir
from brf_exp.standalone import extract_topk

SCRIPT = PACKAGE / "standalone" / "extract_topk.py"


@settings(deadline=None)
@given(n_tokens=st.integers(1, 300), context=st.integers(2, 64), share=st.floats(0, 1))
def test_windows_are_those_of_a_capture(n_tokens: int, context: int, share: float) -> None:
    least = max(1, int(share * (context - 1)))
    expected = windows.plan_windows(n_tokens, context_tokens=context, min_context_tokens=least)
    found = extract_topk.plan_windows(
        n_tokens, first_target=1, n_kept=0, context_tokens=context, min_context_tokens=least
    )
    assert [(w.start, w.stop, w.first_target, w.n_kept) for w in found] == [
        (w.start, w.stop, w.first_target, 0) for w in expected
    ]


@settings(deadline=None)
@given(
    n_tokens=st.integers(1, 300),
    n_lead=st.integers(1, 90),
    context=st.integers(8, 64),
    keeps=st.booleans(),
)
def test_windows_behind_a_prompt(n_tokens: int, n_lead: int, context: int, keeps: bool) -> None:
    """Every token once, within the context, with enough in front of it; a kept prompt in every window."""
    least = context // 2
    n_kept = min(n_lead, context - least - 1) if keeps else 0
    first = n_kept if keeps else n_lead
    found = extract_topk.plan_windows(
        n_tokens, first_target=first or 1, n_kept=n_kept, context_tokens=context, min_context_tokens=least
    )
    scored = [target for w in found for target in range(w.first_target, w.stop + 1)]
    assert scored == list(range(first or 1, n_tokens))
    for window in found:
        assert 0 < window.n_tokens <= context
        seen = [*range(window.n_kept), *range(window.start, window.stop)]
        assert seen == sorted(set(seen))
        assert seen[window.first_row] == window.first_target - 1
        assert set(range(n_kept)) <= set(seen)
        assert window.first_row + 1 >= min(least, window.first_target)


@given(lengths=st.lists(st.integers(1, 50), max_size=40), batch_tokens=st.integers(1, 200))
def test_batches_are_those_of_a_capture(lengths: list[int], batch_tokens: int) -> None:
    expected = [batch.tolist() for batch in windows.bucket(lengths, batch_tokens=batch_tokens)]
    assert extract_topk.bucket(lengths, batch_tokens=batch_tokens) == expected


@pytest.mark.parametrize("k", [2, 5, 12])
def test_rows_of_logits_are_those_of_a_capture(k: int) -> None:
    """Ties, at the last place too; a capture adds up in float32, the script in float64."""
    torch = pytest.importorskip("torch")
    from brf_exp.capture.reduce import reduce_logits

    rng = np.random.default_rng(k)
    logits = torch.from_numpy(np.round(rng.normal(0, 2, (200, 12)), 0 if k < 12 else 7).astype(np.float32))
    targets = torch.from_numpy(rng.integers(0, 12, 200))
    expected = reduce_logits(logits, targets, k=k).scores(())
    rows = np.array([[float(value) for value in row.split(",")] for row in extract_topk.csv_rows(logits, targets, k=k)])
    np.testing.assert_allclose(rows[:, 0], expected.logsumexp, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(rows[:, 1].astype(np.float32), expected.target_logit)
    np.testing.assert_array_equal(rows[:, 2], expected.target_rank)
    np.testing.assert_allclose(rows[:, 3], expected.entropy, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(rows[:, 4 : 4 + k], expected.ids)
    np.testing.assert_array_equal(rows[:, 4 + k :].astype(np.float32), expected.logits)


class _Bytes:
    """A tokenizer of bytes, whose tokens from 256 on are special."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


@given(prompt=st.text(min_size=1, max_size=8), answer=st.text(max_size=12), n_special=st.integers(0, 2))
def test_spans_of_generated_tokens(prompt: str, answer: str, n_special: int) -> None:
    """A character of several tokens ends with the last of them; a special token is empty."""
    ids = [*answer.encode(errors="replace"), *[256] * n_special]
    answer = bytes(i for i in ids if i < 256).decode()
    lead = list(prompt.encode(errors="replace"))
    text, ends = extract_topk.decoded(_Bytes(), lead, ids)
    assert len(ends) == len(ids)
    assert text == (answer if ids else "")
    expected = [len(bytes(ids[: n + 1]).decode(errors="ignore")) for n in range(len(ids) - n_special)]
    if "\ufffd" not in answer:
        assert ends == expected + [len(answer)] * n_special


def test_reserved_names_are_those_that_ingest_refuses() -> None:
    from brf_exp.submission import description

    shipped = {path.stem for path in (conf_dir() / "pair").glob("*.yaml")}
    legal = {name for name in shipped | description.RESERVED if description.SLUG.fullmatch(name)}
    assert legal == extract_topk.RESERVED
    assert extract_topk.SLUG.pattern == description.SLUG.pattern


@pytest.mark.parametrize(
    ("folder", "name"),
    [("My Pair", "my-pair"), ("tiny", "my-tiny"), ("2024", "my-2024"), ("Ü", "my-pair"), ("x" * 99, "x" * 50)],
)
def test_a_folder_gives_the_name(folder: str, name: str) -> None:
    assert extract_topk.slug(folder) == name


# --- what the file needs ----------------------------------------------------------------------------------------------


def _imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names.add(ast.literal_eval(node.args[0]))
    return {name.split(".")[0] for name in names}


def test_it_needs_torch_and_transformers_only() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 10))
    # huggingface_hub comes with transformers.
    assert _imported(tree) - set(sys.stdlib_module_names) == {"torch", "transformers", "huggingface_hub"}


def test_only_the_standard_library_is_needed_to_start() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert _imported(tree) <= sys.stdlib_module_names


def test_the_inline_metadata_say_so() -> None:
    """The block of PEP 723, found by its own regular expression."""
    import tomllib

    block = re.search(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", SCRIPT.read_text())
    assert block is not None
    assert block["type"] == "script"
    lines = block["content"].splitlines()
    metadata = tomllib.loads("\n".join(line[2:] for line in lines))
    assert metadata["requires-python"] == ">=3.10"
    assert [re.split(r"[<>=]", name)[0] for name in metadata["dependencies"]] == ["torch", "transformers"]


def test_without_torch_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "t.txt").write_text("A text.")
    monkeypatch.setattr(extract_topk.importlib.util, "find_spec", lambda name: None)
    assert extract_topk.main(["--model", "x", "--text", str(tmp_path / "t.txt"), "--out", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err == (
        "extract_topk: torch and transformers must be installed. Start the script with `uv run`, or `pip install torch "
        "transformers` first.\n"
    )


def test_help_goes_through_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        extract_topk.parse(["--help"])
    said = capsys.readouterr().out
    for action in extract_topk.parser()._actions:
        assert action.help
        assert action.option_strings[-1] in said


def test_the_documentation_names_options_that_exist() -> None:
    page = (PACKAGE.parent / "docs" / "submit.md").read_text(encoding="utf-8")
    known = {name for action in extract_topk.parser()._actions for name in action.option_strings}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert len(named) > 10
    assert named <= known
    commands = re.findall(r"^\$ python extract_topk\.py (.+)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert extract_topk.parse(command.split()).model
