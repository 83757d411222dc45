"""submission.yaml: what is submitted, by which names, and where the rows are."""

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from string import ascii_lowercase
from typing import Any, Final

import yaml

from brf_exp.submission.fault import SubmissionError, fault, listed, said, shown
from brf_exp.submission.file_types import EXPECTED, family_of
from brf_exp.submission.problems import Problems

FILE_NAME: Final = "submission.yaml"
SUBMISSION_SCHEMA: Final = 1
LARGEST_BYTES: Final = 64 * 1024
SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
RESERVED: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off"})
LOG_BASES: Final = {"e": 1.0, "10": math.log(10.0), "2": math.log(2.0)}
TEMPERATURES: Final = (0.01, 100.0)
MIXED_SCRIPTS: Final = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"})
VALUE_KINDS: Final = ("logit", "logprob")
TOP_KEYS: Final = {"schema": True, "name": True, "submitter": False, "models": True}
MODEL_KEYS: Final = {
    "name": True,
    "revision": False,
    "tokenizer": True,
    "vocab_size": True,
    "value_kind": False,
    "temperature": False,
    "log_base": False,
    "capture": True,
}


@dataclass(frozen=True)
class Member:
    """One model of a submission as declared; `value_kind` is None where the columns' names are to tell."""

    key: str
    name: str
    revision: str | None
    tokenizer: str
    vocab_size: int
    value_kind: str | None
    temperature: float
    log_base: str
    capture: str

    @property
    def nats_per_unit(self) -> float:
        """Factor from the dumped values' logarithm base to nats."""
        return LOG_BASES[self.log_base]


@dataclass(frozen=True)
class Description:
    """A submission as declared; the models in the order a, b, c, ..."""

    name: str
    submitter: str | None
    members: tuple[Member, ...]

    @property
    def shared_ids(self) -> bool:
        """Whether a token id means the same to every model."""
        return len({(member.tokenizer, member.vocab_size) for member in self.members}) == 1

    def declared(self) -> dict[str, Any]:
        """Everything declared except where the rows lie."""
        members = {m.key: {k: v for k, v in asdict(m).items() if k not in ("key", "capture")} for m in self.members}
        return {"name": self.name, "submitter": self.submitter, "models": members}


class _PlainLoader(yaml.BaseLoader):
    """Strings, lists and mappings only: no tags, no anchors or aliases, no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _unreadable(event.start_mark.line, "must hold no YAML anchors or aliases. Write the values out.")
        if getattr(event, "tag", None) is not None:
            raise _unreadable(event.start_mark.line, f"must hold no YAML tags, got {shown(event.tag)}. Remove it.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _unreadable(key_node.start_mark.line, "must have plain words as keys. Mend that line.")
            if key_node.value in seen:
                raise _unreadable(None, f"must have every key once, got {shown(key_node.value)} twice. Remove one.")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _unreadable(line: int | None, sentence: str) -> SubmissionError:
    """The error for a description that is not plain YAML; `line` counts from 0."""
    return said(FILE_NAME if line is None else f"{FILE_NAME} line {line + 1}", sentence, check="description-file")


def read_description(folder: Path, problems: Problems, *, reserved: frozenset[str] = frozenset()) -> Description:
    """Read and check submission.yaml of a folder.

    Parameters
    ----------
    folder
        The submission.
    problems
        Takes in every key that cannot be used; models with such a key are left out.
    reserved
        Names that no submission may have, beside YAML's own words.

    Raises
    ------
    SubmissionError
        Where the file cannot be read at all.
    """
    top = _mapping(_parsed(folder / FILE_NAME), FILE_NAME, TOP_KEYS, problems)
    name, submitter, members = "", None, []
    with problems.catching():
        if top.get("schema", str(SUBMISSION_SCHEMA)) != str(SUBMISSION_SCHEMA):
            raise _value("schema", f"{SUBMISSION_SCHEMA}", top["schema"], f"See what is written of {FILE_NAME}.")
    with problems.catching():
        name = _name(top["name"], reserved) if "name" in top else ""
    with problems.catching():
        submitter = _optional_text(top.get("submitter"), "submitter")
    with problems.catching():
        entries = _members(top["models"]) if "models" in top else {}
        found = [_member(key, entries[key], folder, problems) for key in sorted(entries)]
        members = [member for member in found if member is not None]
    for member in members:
        _warn_of_scripts(member, problems)
    return Description(name, submitter, tuple(members))


def _parsed(path: Path) -> Any:
    """The file as strings, lists and dictionaries."""
    if not path.is_file():
        sentence = "must be in the submission's folder, got none. Write one beside the captures."
        raise said(FILE_NAME, sentence, check="description-file")
    with path.open("rb") as file:
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        size = path.stat().st_size
        raise _unreadable(None, f"must be at most {LARGEST_BYTES} bytes, got {size}. Keep the rows in the captures.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(None, "must be UTF-8 text. Save it as UTF-8.") from error
    try:
        return _PlainLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise _unreadable(line, f"must be YAML: {error.problem}. Mend that line.") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise _unreadable(None, "must be YAML of one document without deep nesting. Mend it.") from error


def _mapping(value: Any, where: str, keys: dict[str, bool], problems: Problems) -> dict[str, Any]:
    """The known keys of a mapping; unknown ones and missing ones are problems."""
    if not isinstance(value, dict):
        requirement = f"a mapping with the keys {listed(sorted(keys))}"
        raise fault(where, requirement, value, "Write `key: value` lines.", check="description-keys")
    for unknown in sorted(set(value) - set(keys)):
        sentence = f"must have keys among {listed(sorted(keys))}, got {shown(unknown)}. Remove or rename it."
        problems.add(said(where, sentence, check="description-keys"))
    for missing in sorted(key for key, required in keys.items() if required and key not in value):
        sentence = f"must have the key {missing!r}, got {listed(sorted(value)) or 'none'}. Add it."
        problems.add(said(where, sentence, check="description-keys"))
    return {key: entry for key, entry in value.items() if key in keys}


def _value(where: str, requirement: str, got: object, remedy: str) -> SubmissionError:
    """The error for a key whose value cannot be."""
    return fault(where, requirement, got, remedy, check="description-value")


def _name(value: Any, reserved: frozenset[str]) -> str:
    """A legal submission name."""
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        remedy = "Use small letters, digits and hyphens, a letter first."
        raise _value("name", f"a slug ({SLUG.pattern})", value, remedy)
    if value in RESERVED | reserved:
        taken = sorted(RESERVED | reserved)
        raise _value("name", f"none of the reserved {', '.join(taken)}", value, "Choose another.")
    return value


def _members(value: Any) -> dict[str, Any]:
    """The models' entries, keyed a, b, c, ..."""
    if not isinstance(value, dict) or len(value) < 2:
        got = listed(sorted(value)) if isinstance(value, dict) else _shown_kind(value)
        sentence = f"must be two or more models keyed a, b, ..., got {got or 'none'}. Describe both models."
        raise said("models", sentence, check="description-keys")
    if sorted(value) != list(ascii_lowercase[: len(value)]):
        sentence = f"must be keyed a, b, c, ... without a gap, got {listed(sorted(value))}. Rename the keys."
        raise said("models", sentence, check="description-keys")
    return value


def _shown_kind(value: Any) -> str:
    """What a YAML value is, in a word."""
    return "a list" if isinstance(value, list) else shown(value)


def _member(key: str, value: Any, folder: Path, problems: Problems) -> Member | None:
    """One model's entry; None, and problems, where a key of it cannot be used."""
    where, n_before = f"models.{key}", problems.n_errors
    entry = _mapping(value, where, MODEL_KEYS, problems)
    read: dict[str, Callable[[Any, str], Any]] = {
        "name": _model_name,
        "revision": _optional_text,
        "tokenizer": _tokenizer,
        "vocab_size": _vocabulary_size,
        "value_kind": lambda given, at: _choice(given, at, VALUE_KINDS),
        "temperature": _temperature,
        "log_base": lambda given, at: _choice(given, at, tuple(LOG_BASES)),
        "capture": lambda given, at: _capture_path(given, at, folder),
    }
    values: dict[str, Any] = dict.fromkeys(MODEL_KEYS) | {"temperature": 1.0, "log_base": "e"}
    for name, given in entry.items():
        with problems.catching():
            values[name] = read[name](given, f"{where}.{name}")
    if values["log_base"] != "e" and values["value_kind"] == "logit":
        remedy = "Remove it, or dump log-probabilities."
        problems.add(_value(f"{where}.log_base", "e where value_kind is logit", values["log_base"], remedy))
    return Member(key=key, **values) if problems.n_errors == n_before else None


def _warn_of_scripts(member: Member, problems: Problems) -> None:
    """A name whose words mix alphabets may pass for another."""
    for word in re.split(r"[\W\d_]+", member.name):
        scripts = {unicodedata.name(letter, "").split(" ")[0] for letter in word} & MIXED_SCRIPTS
        if len(scripts) > 1:
            sentence = f"must have words of one alphabet, got {shown(member.name)}. Write it in one."
            problems.add(said(f"models.{member.key}.name", sentence, check="name-scripts"))
            return


def _text(value: Any, where: str) -> str:
    """A short printable text."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 200:
        raise _value(where, "a text of 1 to 200 printable characters", value, "Write it in quotes.")
    return value


def _model_name(value: Any, where: str) -> str:
    """A short printable text without letters that only look like others: wide, ligatured, pre-composed twice."""
    text = _text(value, where)
    if unicodedata.normalize("NFKC", text) != text:
        raise _value(where, "a name in plain letters (Unicode NFKC)", text, "Type it anew.")
    return text


def _tokenizer(value: Any, where: str) -> str:
    """A name that says which tokens ids stand for: nothing written in words is none."""
    text = _text(value, where)
    if text.lower() in ("null", "none", "~", "unknown"):
        raise _value(where, "a name that models share if and only if their token ids mean the same", text, "Name it.")
    return text


def _optional_text(value: Any, where: str) -> str | None:
    """A short printable text, or None for nothing."""
    return None if value in (None, "", "~", "null") else _text(value, where)


def _choice(value: Any, where: str, choices: tuple[str, ...]) -> str | None:
    """One of the choices, or None where nothing was given."""
    if value is not None and value not in choices:
        raise _value(where, f"one of {', '.join(sorted(choices))}", value, "Choose one of these.")
    return None if value is None else str(value)


def _vocabulary_size(value: Any, where: str) -> int:
    """A whole number of at least 2 that int32 ids can reach."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,10}", value) or not 2 <= int(value) < 2**31:
        raise _value(where, "a whole number from 2 to 2147483647", value, "Give the number of token ids.")
    return int(value)


def _temperature(value: Any, where: str) -> float:
    """A number that values can have been divided by."""
    legal = isinstance(value, str) and re.fullmatch(r"[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value)
    number = float(value) if legal else 0.0
    low, high = TEMPERATURES
    if not low <= number <= high:
        remedy = "Give what the values were divided by; 1.0 if nothing."
        raise _value(where, f"a number from {low:g} to {high:g}", value, remedy)
    return number


def _capture_path(value: Any, where: str, folder: Path) -> str:
    """A path inside the submission that exists: a table file or a folder of part files."""
    text = _text(value, where)
    path = PurePosixPath(text)
    target = folder / path
    try:
        outside = path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text
        outside = outside or not target.resolve().is_relative_to(folder.resolve())
        is_file, is_folder = target.is_file(), target.is_dir()
    except (OSError, RuntimeError, ValueError):  # names too long, links in a circle
        outside, is_file, is_folder = False, False, False
    if outside:
        remedy = "Put the capture beside submission.yaml."
        raise fault(where, "a path inside the submission", text, remedy, check="description-path")
    if not is_file and not is_folder:
        remedy = "Add it, or correct the name."
        raise fault(where, "a file or folder of the submission", text, remedy, check="description-path")
    if is_file and family_of(text) is None:
        raise fault(where, f"{EXPECTED}, or a folder of part-* files", text, "Convert it.", check="description-path")
    return text
