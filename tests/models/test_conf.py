from pathlib import Path

import pytest
import yaml

from brf_exp.config import ModelConfig, RecipeConfig
from brf_exp.models.reference import EMBEDDED, embedded_names
from brf_exp.paths import conf_dir
from brf_exp.storage.runs import jsonable, read_json


@pytest.mark.parametrize("name", embedded_names())
def test_recipe_of_an_embedded_model_is_what_its_option_says(name: str) -> None:
    option = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text())
    model = ModelConfig(name=option["name"], recipe=RecipeConfig(**option.get("recipe", {})))
    made = read_json(EMBEDDED / name / "recipe.json")
    assert made["name"] == model.name == name
    assert made["determines"]["recipe"] == jsonable(model.recipe)


@pytest.mark.parametrize("path", sorted((conf_dir() / "model").glob("tiny_*.yaml")), ids=lambda path: path.stem)
def test_options_name_embedded_models_and_only_state_choices(path: Path) -> None:
    option = yaml.safe_load(path.read_text())
    assert option["name"] == path.stem in embedded_names()
    defaults = jsonable(RecipeConfig())
    assert {key: value for key, value in option["recipe"].items() if defaults[key] == value} == {}
