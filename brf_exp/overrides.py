"""From what a user types to what Hydra reads: known keys, options by name, text quoted. Without Hydra."""

import hashlib
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brf_exp.cli_help import options_of
from brf_exp.config import STAGES, StageConfig
from brf_exp.errors import ConfigError
from brf_exp.models.reference import HUB_ID, embedded_names
from brf_exp.paths import conf_dir
from brf_exp.settings import Setting, closest, groups_of, require_known, settings_of

PATH_KEYS = frozenset(
    "claims.ledger corpus.path generation.tokens_of model.id out pair.a pair.b pair.proxy pair.submission phase.table "
    "proxy run runs runs_dir report submission".split()
)
CAPTURE_LISTS = frozenset(("captures", "recapture.captures"))
LIST_KEYS = CAPTURE_LISTS | {"pair.others"}
_FIELD_GROUPS = frozenset(name for schema in STAGES.values() for name in groups_of(schema))
_OVERRIDE = re.compile(r"(?P<prefix>\+\+|\+|~)?(?P<key>[^=]*)(?:=(?P<value>.*))?", re.DOTALL)
_SWEEP_FUNCTION = re.compile(r"(choice|glob|interval|range|shuffle|sort|tag)\(.*\)", re.DOTALL)
_TEXT_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet", ".gz")


@dataclass(frozen=True)
class Request:
    """A stage to run, with everything Hydra needs to be told."""

    stage: str
    sweep: bool
    flags: list[str]
    overrides: list[str]
    runs_dir: Path
    options: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)


@dataclass
class _Reader:
    """The state of reading one command line."""

    stage: str
    sweep: bool
    runs_dir: Path
    folders: list[Path]
    options: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def schema(self) -> type[StageConfig]:
        return STAGES[self.stage]

    def read(self, override: str) -> str:
        """One override as Hydra should read it; ConfigError where it names nothing."""
        match = _OVERRIDE.fullmatch(override)
        assert match is not None
        prefix, key, value = match["prefix"] or "", match["key"], match["value"]
        if value is None and prefix != "~":
            raise ConfigError(f"`{override}` must be of the form key=value, got no `=`.")
        if "_target_" in key:
            raise ConfigError(f"`{key}` must be a setting of `{self.stage}`, got an object to build. Leave it out.")
        if key.split(".")[0].split("/")[0] == "hydra":
            return override
        if self._is_extra_group(key):
            self._require_options(key, value or "")
            return override
        require_known(self.schema, key, stage=self.stage)
        return override if value is None else f"{prefix}{key}={self._value(key, value)}"

    def _is_extra_group(self, key: str) -> bool:
        """A group of YAML options that is no field of any stage, e.g. the user's own `experiment`."""
        if not key or key in _FIELD_GROUPS:
            return False
        return any((folder / key).is_dir() for folder in self.folders)

    def _require_options(self, group: str, value: str) -> None:
        """Raise ConfigError for a name that is no YAML option of such a group."""
        options = sorted(options_of(group, self.folders))
        for name in [] if _SWEEP_FUNCTION.fullmatch(value) else value.split(","):
            if name not in (*options, "", "null"):
                raise ConfigError(
                    f"`{group}` must be one of {', '.join(options)}, got {name!r}. {closest(name, options)}".rstrip()
                )

    def _value(self, key: str, value: str) -> str:
        if key in groups_of(self.schema):
            return self._option(key, value)
        setting = settings_of(self.schema).get(key)
        if setting is not None and key in LIST_KEYS:
            return self._lists(setting, value)
        if setting is not None and typing.get_origin(setting.type) is list:
            self._require_lists(setting, value)
        if setting is None or not setting.is_text or value in ("", "null"):
            return value
        if self.sweep and key not in PATH_KEYS and _SWEEP_FUNCTION.fullmatch(value):
            return value
        whole = not self.sweep or _is_quoted(value) or (key in PATH_KEYS and Path(value).expanduser().exists())
        parts = [value] if whole else value.split(",")
        return ",".join(quoted(_home(part) if key in PATH_KEYS else part) for part in parts)

    def _require_lists(self, setting: Setting, value: str) -> None:
        """Raise ConfigError for what is no list in brackets, or several for a sweep."""
        if self.sweep and _SWEEP_FUNCTION.fullmatch(value):
            return
        for part in re.split(r"(?<=\]),(?=\[)", value) if self.sweep else [value]:
            if not (part.startswith("[") and part.endswith("]")):
                raise ConfigError(f"`{setting.key}` must be {setting.requirement}, got {value!r}.")

    def _lists(self, setting: Setting, value: str) -> str:
        lists = re.split(r"(?<=\]),(?=\[)", value) if self.sweep else [value]
        return ",".join(_list(setting, part) for part in lists)

    def _option(self, group: str, value: str) -> str:
        """The names of one group's options; files and submissions become options of their own."""
        if self.sweep and _SWEEP_FUNCTION.fullmatch(value):
            return value
        whole = not self.sweep or (group == "corpus" and Path(value).expanduser().exists())
        return ",".join(self._one_option(group, name) for name in ([value] if whole else value.split(",")))

    def _one_option(self, group: str, name: str) -> str:
        shipped = options_of(group, self.folders)
        if name in shipped:
            return name
        if group == "corpus" and _looks_like_file(name):
            option = "file-" + hashlib.sha256(name.encode()).hexdigest()[:8]
            self.options[group, option] = {"name": "file", "path": literal(_home(name))}
            return option
        ingested = ingested_pairs(self.runs_dir) if group == "pair" else {}
        if name in ingested:
            self.options[group, name] = {"name": name, "submission": literal(str(ingested[name]))}
            return name
        raise ConfigError(self._no_option(group, name, sorted(shipped), sorted(ingested)))

    def _no_option(self, group: str, name: str, shipped: list[str], ingested: list[str]) -> str:
        if not shipped:
            keys = sorted(key for key in settings_of(self.schema) if key.startswith(group + "."))
            return f"`{group}` must be set by its keys ({', '.join(keys)}), got {name!r}."
        asked = f"one of {', '.join(shipped)}"
        if group == "pair":
            asked += f", or an ingested submission ({', '.join(ingested) or f'none in {self.runs_dir}'})"
        if group == "corpus":
            asked += ", or a file's path"
        several = "," in name and all(part in (*shipped, *ingested) for part in name.split(","))
        hint = "Add -m to run one after the other." if several else closest(name, [*shipped, *ingested])
        return f"`{group}` must be {asked}, got {name!r}. {hint}".rstrip()


def read_request(stage: str, arguments: list[str]) -> Request:
    """Sort the arguments behind a stage into flags and overrides, and check and quote every override."""
    flags, overrides, sweep, config_dirs = _sorted_arguments(arguments)
    reader = _Reader(stage, sweep, _runs_dir(overrides), [conf_dir(), *config_dirs])
    read = [reader.read(override) for override in overrides]
    return Request(stage, sweep, flags, read, reader.runs_dir, reader.options, reader.folders)


def read_more(request: Request, overrides: list[str]) -> list[str]:
    """Overrides that stand in a file, checked and quoted like those of the command line; options go to the request."""
    reader = _Reader(request.stage, request.sweep, request.runs_dir, request.folders, request.options)
    return [reader.read(override) for override in overrides]


def ingested_pairs(runs_dir: Path) -> dict[str, Path]:
    """Folders of the submissions under a runs folder, by name."""
    return {path.parent.name: path.parent for path in sorted(runs_dir.glob("submissions/*/pair.json"))}


def quoted(value: str) -> str:
    """Text in Hydra's single quotes, as itself: no sweep, no interpolation, no number."""
    if _is_quoted(value):
        return value
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", literal(value))
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"


def literal(value: str) -> str:
    """Text in which OmegaConf finds no interpolation."""
    return value.replace("${", r"\${")


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _path(value: str) -> Path:
    return Path(value[1:-1] if _is_quoted(value) else value).expanduser()


def _home(value: str) -> str:
    return str(Path(value).expanduser()) if value.startswith("~") else value


def _looks_like_file(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith(_TEXT_SUFFIXES) or Path(name).expanduser().is_file()


def _list(setting: Setting, value: str) -> str:
    """A list of paths, `[A,B]`, each one quoted."""
    if not (value.startswith("[") and value.endswith("]")):
        raise ConfigError(f"`{setting.key}` must be {setting.requirement}, got {value!r}.")
    inner = value[1:-1].strip()
    members = _members(setting, inner) if inner else []
    return "[" + ",".join(quoted(_home(member)) for member in members) + "]"


def _members(setting: Setting, inner: str) -> list[str]:
    """The members of `A,B,...`, whose own names may hold commas."""
    pieces = [piece.strip() for piece in inner.split(",")]
    is_capture = setting.key in CAPTURE_LISTS
    found = _split(inner.split(","), models=not is_capture)
    least = 2 if is_capture else 1
    if found is not None and len(found) >= least:
        return found
    # Nothing tells which commas are part of a name: all separate, and whoever opens the members says what is wrong.
    if all(pieces) and (len(pieces) == least or not is_capture):
        return pieces
    requirement = "a list of two or more folders that exist, [A,B]" if is_capture else setting.requirement
    raise ConfigError(f"`{setting.key}` must be {requirement}, got '[{inner}]'.")


def _split(pieces: list[str], *, models: bool) -> list[str] | None:
    """Pieces joined to known members: as much as can be to what is there, and to as many as can be; None if none."""
    embedded = embedded_names() if models else []
    best: list[tuple[int, int, list[str]] | None] = [None] * len(pieces) + [(0, 0, [])]
    for first in reversed(range(len(pieces))):
        for end in range(first + 1, len(pieces) + 1):
            rest, member = best[end], ",".join(pieces[first:end]).strip()
            there = member in embedded or _is_there(member)
            if rest is None or not (there or (models and HUB_ID.fullmatch(member))):
                continue
            made = (rest[0] + (end - first) * there, rest[1] + 1, [member, *rest[2]])
            current = best[first]
            if current is None or made[:2] > current[:2]:
                best[first] = made
    return None if best[0] is None else best[0][2]


def _is_there(member: str) -> bool:
    try:
        return member != "" and _path(member).exists()
    except OSError:  # longer than a name can be
        return False


def _runs_dir(overrides: list[str]) -> Path:
    """The folder of results that the command line names, else the default one; absolute."""
    values = [text.partition("=")[2] for text in overrides if text.lstrip("+").startswith("runs_dir=")]
    value = values[-1] if values else StageConfig.runs_dir
    if not value.strip("'\" "):
        raise ConfigError("`runs_dir` must be a folder, got nothing. Leave it out for `runs`.")
    there = next((path for path in [_path(value).absolute(), *_path(value).absolute().parents] if path.exists()), None)
    if there is not None and not there.is_dir():
        raise ConfigError(f"`runs_dir` must be a folder or lie in one, got {value!r}, and {str(there)!r} is none.")
    return _path(value).absolute()


_SWEEP_FLAGS = ("-m", "--multirun")
_PLAIN_FLAGS = ("--resolve", "--hydra-help", "-sc", "--shell-completion")
_VALUE_FLAGS = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd")


def _sorted_arguments(arguments: list[str]) -> tuple[list[str], list[str], bool, list[Path]]:
    """Flags for Hydra, overrides, whether it is a sweep, and the user's own folders of YAML."""
    flags: list[str] = []
    overrides: list[str] = []
    config_dirs: list[Path] = []
    rest = iter(arguments)
    for argument in rest:
        name, _, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
        elif argument in (*_SWEEP_FLAGS, *_PLAIN_FLAGS):
            flags.append(argument)
        elif name in _VALUE_FLAGS:
            value = value or next(rest, "")
            flags += [name, value]
            if name in ("--config-dir", "-cd"):
                config_dirs.append(_config_dir(value))
        else:
            known = sorted((*_SWEEP_FLAGS, *_PLAIN_FLAGS, *_VALUE_FLAGS, "--help", "--version"))
            raise ConfigError(f"`{argument}` must be key=value or one of {', '.join(known)}.")
    return flags, overrides, any(flag in _SWEEP_FLAGS for flag in flags), config_dirs


def _config_dir(value: str) -> Path:
    folder = Path(value).absolute()
    if not value or not folder.is_dir():
        raise ConfigError(f"`--config-dir` must be a folder of YAML options, got {value!r}.")
    return folder
