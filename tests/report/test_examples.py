import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brf_exp.report import load_run
from brf_exp.report.examples import N_AMPLIFIED, N_SUPPRESSED, STEPS_NATS, excerpts


def test_the_largest_effects_come_first_and_each_document_once(whole_run):
    found = excerpts(load_run(whole_run))
    assert len(found) == N_AMPLIFIED + N_SUPPRESSED + 1
    assert found[0].reason == "Strongly amplified: 1.5 nats"
    assert found[N_AMPLIFIED].reason == "Strongly suppressed: 2 nats"
    assert found[-1].reason == "An ordinary passage, not chosen by effect"
    assert len({excerpt.document for excerpt in found}) == len(found)


def test_an_excerpt_is_the_text_as_it_stands(whole_run):
    excerpt = excerpts(load_run(whole_run))[0]
    assert "".join(piece.text for piece in excerpt.pieces) == "the phase of a gap is a map from one number to"
    assert (excerpt.document, excerpt.first_position) == ("doc-00", 0)
    assert not excerpt.cut_before
    assert not excerpt.cut_after
    centre = [piece for piece in excerpt.pieces if piece.centre]
    assert [(piece.text, piece.step) for piece in centre] == [("is", len(STEPS_NATS))]


def test_a_token_below_both_models_is_marked_and_says_so(whole_run):
    excerpt = excerpts(load_run(whole_run))[N_AMPLIFIED]
    below = [piece for piece in excerpt.pieces if piece.below]
    assert [(piece.step, piece.centre) for piece in below] == [(-len(STEPS_NATS), True)]
    assert below[0].note == (
        "models 60.7\u00a0% and 60.7\u00a0%, linear pool 60.7\u00a0%, Born Rule Fusion 8.21\u00a0% "
        "(−2 nats, below both models)"
    )


def test_text_between_tokens_has_no_note(whole_run):
    pieces = excerpts(load_run(whole_run))[0].pieces
    assert {piece.text for piece in pieces if not piece.note} == {" "}


@pytest.mark.parametrize("options", [{"captures": False}, {"texts": False}])
def test_without_texts_token_ids_are_shown(make_run, options):
    found = excerpts(load_run(make_run(**options)))
    assert [piece.text for piece in found[0].pieces[:3]] == ["0 ", "1 ", "2 "]
    assert found[0].document == ("doc-00" if options.get("captures", True) else "document 1")


def test_a_text_that_is_missing_gives_token_ids(make_run):
    folder = make_run()
    path = folder.parent / f"{folder.name}-captures" / "a" / "texts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert excerpts(load_run(folder))[0].pieces[0].text == "0 "
    path.write_bytes(b"\xff\xfe\n")
    assert excerpts(load_run(folder))[0].pieces[0].text == "0 "


def test_tokens_inside_one_character_show_it_once(make_run):
    folder = make_run()
    part = folder.parent / f"{folder.name}-captures" / "a" / "part-00000.parquet"
    table = pq.read_table(part, partitioning=None)
    starts, ends = (table[name].to_numpy().copy() for name in ("char_start", "char_end"))
    starts[1::12], ends[1::12] = starts[0], ends[0]
    for name, values in (("char_start", starts), ("char_end", ends)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values.astype(np.int32)))
    pq.write_table(table, part)
    text = "".join(piece.text for piece in excerpts(load_run(folder))[0].pieces)
    assert text == "the phase of a gap is a map from one number to"


def test_no_losses_no_excerpts(make_run):
    assert excerpts(load_run(make_run(stages=("coherence",)))) == []
