import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from brf_exp.stages.coherence import run as coherence
from brf_exp.stages.collect_claims import counted_runs
from brf_exp.stages.collect_read import read_run
from brf_exp.stages.collect_subjects import Links, subjects_of
from brf_exp.stages.ledger import load_ledger
from brf_exp.storage.runs import read_json

SHIPPED = {claim.test: claim for claim in load_ledger(None)}
GENERATED = {"by": {"weights_sha256": "a"}, "temperature": 0.7, "top_k": None, "top_p": 1.0}


def described(models="ab", *, fingerprint="f", path="texts.txt", cut=None, condition="none", generated=None):
    return {
        "models": [{"weights_sha256": weights} for weights in models],
        "texts": {"fingerprint": fingerprint, "source": {"name": "file", "path": path}, "cut": cut},
        "condition": condition,
        "generated": generated,
    }


@pytest.fixture
def subjects(tmp_path, write_light_run):
    """Subjects of light runs of equal names, one per description of what was tested or settings; numbered."""

    def make(*runs, **names):
        read = []
        for place, (what, settings) in enumerate(runs):
            folder = write_light_run(tmp_path / str(place), tested=what, seed=place, **names)
            (folder / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")
            read.append(read_run(folder, SHIPPED, map_name="arctan"))
        found = subjects_of([run.links for run in read])
        backwards = subjects_of([run.links for run in read[::-1]])[::-1]
        assert found == backwards
        numbers = list(dict.fromkeys(found))
        return [numbers.index(one) for one in found], [run.cells["condition"] for run in read]

    return make


def of(*runs):
    return [(what, {}) for what in runs]


def test_models_are_their_weights_and_not_their_names(subjects):
    numbers, _ = subjects(*of(described("ab"), described("ba"), described("ac"), described("bc")))
    assert numbers == [0, 0, 1, 2]


def test_texts_are_their_content_or_a_part_of_the_same_place(subjects):
    numbers, _ = subjects(*of(
        described(),
        described(path="a copy.txt"),
        described(fingerprint="g", cut=40),
        described(fingerprint="h", path="others.txt"),
        described(fingerprint="i", path="others.txt", condition="prompted"),
    ))  # fmt: skip
    assert numbers == [0, 0, 0, 1, 2]


def test_a_place_that_holds_other_texts_now_is_another_corpus(subjects):
    assert subjects(*of(described(fingerprint="f"), described(fingerprint="g")))[0] == [0, 1]


def test_a_part_of_either_of_two_texts_ties_them(subjects):
    runs = described(fingerprint="f"), described(fingerprint="g"), described(fingerprint="h", cut=9)
    assert subjects(*of(*runs))[0] == [0, 0, 0]


def test_generated_texts_are_what_was_sampled_by_whom_and_not_the_seed(subjects):
    colder = GENERATED | {"temperature": 0.1}
    other = GENERATED | {"by": {"weights_sha256": "b"}}
    numbers, conditions = subjects(*of(
        described(),
        described(fingerprint="1", generated=GENERATED),
        described(fingerprint="2", generated=GENERATED),
        described(fingerprint="3", generated=colder),
        described(fingerprint="4", generated=other),
        described(fingerprint="5", generated=other, condition="prompted"),
    ))  # fmt: skip
    assert numbers == [0, 1, 1, 2, 3, 4]
    assert conditions[1] == conditions[4] == "generated, temperature 0.7, top_p 1.0"
    assert conditions[3] == "generated, temperature 0.1, top_p 1.0"
    assert conditions[5] == "generated, temperature 0.7, top_p 1.0, prompted"


def test_older_results_are_told_apart_by_what_their_settings_name(subjects):
    pair = {"a": "/x/model", "b": "org/b", "a_revision": None}
    moved, revised = pair | {"a": "/y/model"}, pair | {"b_revision": "v2"}
    swapped = {"a": "org/b", "b": "/x/model"}
    settings = [{"pair": one, "corpus": {"path": "t"}} for one in (pair, swapped, moved, revised)]
    settings.append({"pair": pair, "corpus": {"path": "u"}})
    numbers, _ = subjects(*((None, one) for one in settings))
    assert numbers == [0, 0, 1, 2, 3]


def test_captures_of_one_content_are_one_subject_whoever_says_so(tmp_path, write_light_run):
    read = []
    for place, what in enumerate((None, described(), None)):
        folder = write_light_run(tmp_path / str(place), tested=what, corpus=f"corpus {place}", seed=place)
        manifest = read_json(folder / "manifest.json")
        manifest["determines"]["inputs"] = {"captures": ["2", "1"] if place else ["1", "2"]}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        read.append(read_run(folder, SHIPPED, map_name="arctan"))
    assert len(set(subjects_of([run.links for run in read]))) == 1


def test_ties_are_passed_on_in_any_order():
    chain = [Links(("a", "b")), Links(("c", "d")), Links(("e",)), Links(("b", "c"))]
    for order in itertools.permutations(range(4)):
        found = dict(zip(order, subjects_of([chain[place] for place in order]), strict=True))
        assert found == {0: "a", 1: "a", 3: "a", 2: "e"}


def test_another_map_on_the_same_captures_is_robustness(write_capture, settings, controls_pass):
    """Real results of captures named by folder, twice, and of the weights of another model with the same names."""
    rng = np.random.default_rng(0)
    gaps, lengths = rng.exponential(2.0, (3, 24 * 30)), [30] * 24
    folders = [
        write_capture("model", rows, lengths, folder=f"capture{place}", model={"weights_sha256": f"{place}"})
        for place, rows in enumerate(gaps)
    ]
    made = [
        coherence(settings(*folders[:2])),
        coherence(settings(*folders[:2], phase__name="tanh")),
        coherence(settings(folders[0], folders[2])),
    ]
    assert read_json(made[0] / "results.json")["tested"]["models"] == [{"weights_sha256": n} for n in "01"]
    assert read_json(made[0] / "results.json")["effective_df"] == pytest.approx(23)
    runs = [read_run(folder, SHIPPED, map_name="arctan") for folder in made]
    found = subjects_of([run.links for run in runs])
    assert found[0] == found[1] != found[2]
    tied = [replace(run, subject=subject) for run, subject in zip(runs, found, strict=True)]
    assert counted_runs(tied, range(3)) == [0, 2]
