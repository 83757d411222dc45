"""A stage's settings read off its dataclass: keys, types, defaults, comments. Standard library only."""

import ast
import dataclasses
import difflib
import io
import tokenize
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from brf_exp import config
from brf_exp.errors import ConfigError

_REQUIREMENTS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_FOLDERS = "a list of two or more folders, [A,B]"
_LISTS = {
    "captures": _FOLDERS,
    "capture.temperatures": "a list of numbers, [0.7,1.5]",
    "pair.others": "a list of models, [A,B]",
    "recapture.captures": _FOLDERS,
}


@dataclass(frozen=True)
class Setting:
    """One leaf of a stage's config: its dotted key, annotated type, default and comment."""

    key: str
    type: Any
    default: Any
    comment: str

    @property
    def is_text(self) -> bool:
        """Whether the value is a string, or null."""
        return str in (self.type, *typing.get_args(self.type)) and typing.get_origin(self.type) is not list

    @property
    def requirement(self) -> str:
        """What a value must be, in words."""
        if isinstance(self.type, types.UnionType):
            kinds = [kind for kind in typing.get_args(self.type) if kind is not type(None)]
            return f"{_REQUIREMENTS[kinds[0]]} or null"
        if isinstance(self.type, type) and issubclass(self.type, Enum):
            return "one of " + ", ".join(sorted(str(member.value) for member in self.type))
        return _REQUIREMENTS.get(self.type) or _LISTS[self.key]


def settings_of(schema: type, prefix: str = "") -> dict[str, Setting]:
    """Every leaf setting of a dataclass by dotted key, in the order of the source."""
    found: dict[str, Setting] = {}
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            found |= settings_of(typing.cast(type, kind), f"{prefix}{field.name}.")
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        comment = _comment(schema, field.name)
        found[prefix + field.name] = Setting(prefix + field.name, kind, default, comment)
    return found


def groups_of(schema: type) -> dict[str, type]:
    """The nested dataclasses of a stage by name."""
    hints = typing.get_type_hints(schema)
    return {f.name: hints[f.name] for f in dataclasses.fields(schema) if dataclasses.is_dataclass(hints[f.name])}


def require_known(schema: type, key: str, *, stage: str) -> None:
    """Raise ConfigError where a dotted key is neither a setting nor a group of a stage."""
    known = settings_of(schema)
    prefixes = {prefix for name in known for prefix in _prefixes(name)}
    if key in known or key in prefixes:
        return
    parent = max((p for p in prefixes if key.startswith(p + ".")), key=len, default="")
    depth = parent.count(".") + 1 if parent else 0
    below = [k for k in (*known, *prefixes) if not parent or k.startswith(parent + ".")]
    options = sorted({k.split(".")[depth] for k in below})
    owner = f"one of `{parent}`'s settings" if parent else f"one of the settings of `{stage}`"
    wanted = ".".join(key.split(".")[depth:])
    hint = closest(key, [*known, *prefixes]) or f"`brf-exp {stage} --help` lists them."
    raise ConfigError(f"`{key}` must be {owner} ({', '.join(options)}), got {wanted!r}. {hint}")


def require_known_tree(schema: type, values: dict[Any, Any], *, stage: str) -> None:
    """Raise ConfigError for the first key of a nested mapping that the dataclass does not have."""
    leaves = settings_of(schema)

    def walk(node: dict[Any, Any], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            require_known(schema, key, stage=stage)
            if isinstance(value, dict) and key not in leaves:
                walk(value, key + ".")

    walk(values, "")


def closest(name: str, options: Iterable[str]) -> str:
    """`Did you mean ...?`, or nothing where no option is near."""
    near = difflib.get_close_matches(name, sorted(options), n=1)
    return f"Did you mean `{near[0]}`?" if near else ""


def shown(value: Any) -> str:
    """A default as one would type it on the command line."""
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _comment(schema: type, name: str) -> str:
    comments = _comments(Path(config.__file__))
    return next((comments[c.__name__, name] for c in schema.__mro__ if (c.__name__, name) in comments), "")


@cache
def _comments(path: Path) -> dict[tuple[str, str], str]:
    """The comment behind every annotated field, by class and field."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    by_line = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    return {
        (owner.name, node.target.id): by_line[node.end_lineno]
        for owner in ast.parse(source).body
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno in by_line
    }
