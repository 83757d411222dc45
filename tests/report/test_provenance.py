import json
import shlex

import pytest

from brf_exp.report import load_run, provenance


def test_commands_repeat_what_differs_from_the_defaults(whole_run):
    command = shlex.split(provenance.commands(load_run(whole_run))[0])
    assert command == [
        "brf-exp", "run", "pair=tiny", "phase=arctan", "phase.scale=1.5", "evaluation.n_resamples=99", "seed=3",
        "corpus=file", "corpus.path=my texts.txt", "capture.k=20",
    ]  # fmt: skip


def test_a_pair_without_a_name_is_named_by_its_models(make_run):
    folder = make_run(pair="one-two", models=("one", "two"))
    command = shlex.split(provenance.commands(load_run(folder))[0])
    assert command[2:5] == ["pair=hf", "pair.a=hub/one", "pair.b=hub/two"]


def test_models_without_a_name_for_all_are_named_one_by_one(make_run):
    run = load_run(make_run(pair="one-two-three", models=("one", "two", "three")))
    command = shlex.split(provenance.commands(run)[0])
    assert command[2:6] == ["pair=hf", "pair.a=hub/one", "pair.b=hub/two", "pair.others=[three]"]
    assert "proxy=none" not in command


def test_how_the_second_capture_was_made_is_repeated(make_run):
    run = load_run(make_run())
    assert "recapture" not in provenance.commands(run)[0]
    run.discrimination["noise_floor"]["dtype"] = "float16"
    run.discrimination["phase_scope"] = "token"
    assert {"recapture.dtype=float16", "phase.scope=token"} <= set(shlex.split(provenance.commands(run)[0]))
    run.discrimination.update(noise_floor=None, noise_floor_reason="recapture.enabled is false")
    assert "recapture.enabled=false" in shlex.split(provenance.commands(run)[0])


@pytest.mark.parametrize(("role", "label"), [("c", "model c"), ("model27", "model27"), ("proxy", "difficulty proxy")])
def test_every_capture_has_its_role(make_run, role, label):
    run = load_run(make_run())
    run.captures[role] = run.captures["a"]
    assert [source.role for source in provenance.sources(run)] == ["model a", "model b", label]


def test_a_proxy_that_there_was_not_is_not_found_next_time(make_run):
    without = load_run(make_run("without", proxy=False))
    assert "proxy=none" in shlex.split(provenance.commands(without)[0])
    aligned = load_run(make_run("aligned"))
    aligned.coherence["aligned_share"] = 0.9
    undefined = load_run(make_run("undefined", proxy=False))
    undefined.summary["proxy"] = "org/third"
    for run in (aligned, undefined):
        assert "proxy=none" not in provenance.commands(run)[0]


def test_a_submission_is_ingested_first(make_run):
    folder = make_run()
    path = folder.parent / f"{folder.name}-captures" / "a" / "capture.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"mode": "submission"}), encoding="utf-8")
    first, second, third = provenance.commands(load_run(folder))
    assert first == "brf-exp ingest submission=PATH"
    assert "corpus=" not in second
    assert third == f"brf-exp report run=runs/run/{folder.name}"


def test_generated_text_is_generated_again(make_run):
    folder = make_run()
    settings = {"prompt_tokens": 64, "new_tokens": 32, "temperature": 0.7, "top_k": None, "top_p": 1.0}
    for role, mode in (("a", "teacher_forced"), ("b", "generation")):
        path = folder.parent / f"{folder.name}-captures" / role / "capture.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest |= {"mode": mode, "generation": {"by": "org/second", "settings": settings, "seed": 3}}
        manifest["determines"]["capture"]["mode"] = "generation"
        path.write_text(json.dumps(manifest), encoding="utf-8")
    run = load_run(folder)
    command = shlex.split(provenance.commands(run)[0])
    wanted = ["capture.mode=generation", "generation.new_tokens=32", "generation.temperature=0.7", "generation.by=b"]
    assert [override for override in command if override.startswith(("capture.mode", "generation."))] == wanted
    by = "org/second (prompt_tokens 64, new_tokens 32, temperature 0.7, top_p 1.0, seed 3)"
    assert [dict(source.facts)["tokens written by"] for source in provenance.sources(run)] == [by, by]
    del run.captures["b"]  # nobody of those that are there wrote them
    assert "generation.tokens_of=PATH" in shlex.split(provenance.commands(run)[0])


def test_sources_and_stages_tell_what_was_recorded(whole_run):
    run = load_run(whole_run)
    first, second = provenance.sources(run)
    assert (first.role, first.name, second.name) == ("model a", "org/first", "org/second")
    assert dict(first.facts)["weights SHA-256"] == "f00d" * 16
    assert "device" not in dict(first.facts)
    stage = {record.stage: record for record in provenance.stage_records(run)}["coherence"]
    assert (stage.seed, stage.commit, stage.seconds) == ("3", "0123456789ab with uncommitted changes", 1.25)
    assert provenance.packages(run) == {"brf-exp": "0.1.0", "numpy": "2.4.0"}


@pytest.mark.parametrize("stages", [("discriminate",), ("coherence",)])
def test_one_test_alone_has_its_provenance(make_run, stages):
    run = load_run(make_run(stages=stages, captures=False))
    assert provenance.sources(run) == []
    assert "phase=arctan" in provenance.commands(run)[0]
    assert provenance.packages(run)
