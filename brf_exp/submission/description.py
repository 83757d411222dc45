"""submission.yaml: what is submitted, by which names, and where the rows are."""

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from string import ascii_lowercase
from typing import Any, Final

import yaml

from brf_exp.submission.fault import fault, listed, said

FILE_NAME: Final = "submission.yaml"
SUBMISSION_SCHEMA: Final = 1
LARGEST_BYTES: Final = 64 * 1024
SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
RESERVED: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off"})
LOG_BASES: Final = {"e": 1.0, "10": math.log(10.0), "2": math.log(2.0)}
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
            raise said(f"{FILE_NAME} line {event.start_mark.line + 1}", "must hold no YAML anchors or aliases.")
        if getattr(event, "tag", None) is not None:
            raise said(f"{FILE_NAME} line {event.start_mark.line + 1}", f"must hold no YAML tags, got {event.tag!r}.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise said(f"{FILE_NAME} line {key_node.start_mark.line + 1}", "must have plain words as keys.")
            if keys.count(key_node.value) > 1:
                raise said(f"{FILE_NAME}", f"must have every key once, got {key_node.value!r} twice. Remove one.")
        return super().construct_mapping(node, deep=deep)


def read_description(folder: Path, *, reserved: frozenset[str] = frozenset()) -> Description:
    """Read and check submission.yaml of a folder.

    Parameters
    ----------
    folder
        The submission.
    reserved
        Names that no submission may have, beside YAML's own words.

    Raises
    ------
    InputError
        One line naming the key, what it must be and what was found.
    """
    top = _mapping(_parsed(folder / FILE_NAME), FILE_NAME, TOP_KEYS)
    if top["schema"] != str(SUBMISSION_SCHEMA):
        raise fault("schema", f"{SUBMISSION_SCHEMA}", top["schema"], f"See the format's description for {FILE_NAME}.")
    name = _name(top["name"], reserved)
    entries = _members(top["models"])
    members = tuple(_member(key, entries[key], folder) for key in sorted(entries))
    return Description(name, _optional_text(top.get("submitter"), "submitter"), members)


def _parsed(path: Path) -> Any:
    """The file as strings, lists and dictionaries."""
    if not path.is_file():
        raise said(FILE_NAME, "must be in the submission's folder, got none. Write one beside the captures.")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise said(FILE_NAME, f"must be at most {LARGEST_BYTES} bytes, got {size}. Keep the rows in the captures.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise said(FILE_NAME, "must be UTF-8 text. Save it as UTF-8.") from error
    try:
        return _PlainLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise said(f"{FILE_NAME} line {line}", f"must be YAML: {error.problem}. Mend that line.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise said(FILE_NAME, "must be YAML of one document without deep nesting. Mend it.") from error


def _mapping(value: Any, where: str, keys: dict[str, bool]) -> dict[str, Any]:
    """The value as a mapping with all required keys and no unknown ones."""
    if not isinstance(value, dict):
        raise fault(where, f"a mapping with the keys {listed(sorted(keys))}", value, "Write `key: value` lines.")
    unknown = sorted(set(value) - set(keys))
    if unknown:
        raise said(where, f"must have keys among {listed(sorted(keys))}, got {unknown[0]!r}. Remove or rename it.")
    missing = sorted(key for key, required in keys.items() if required and key not in value)
    if missing:
        raise said(where, f"must have the key {missing[0]!r}, got {listed(sorted(value)) or 'none'}. Add it.")
    return value


def _name(value: Any, reserved: frozenset[str]) -> str:
    """A legal submission name."""
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise fault("name", f"a slug ({SLUG.pattern})", value, "Use small letters, digits and hyphens, a letter first.")
    if value in RESERVED | reserved:
        raise fault("name", f"none of the reserved {listed(sorted(RESERVED | reserved))}", value, "Choose another.")
    return value


def _members(value: Any) -> dict[str, Any]:
    """The models' entries, keyed a, b, c, ..."""
    if not isinstance(value, dict) or len(value) < 2:
        got = listed(sorted(value)) if isinstance(value, dict) else _shown_kind(value)
        raise said("models", f"must be two or more models keyed a, b, ..., got {got or 'none'}. Describe both models.")
    if sorted(value) != list(ascii_lowercase[: len(value)]):
        raise said("models", f"must be keyed a, b, c, ... without a gap, got {listed(sorted(value))}. Rename the keys.")
    return value


def _shown_kind(value: Any) -> str:
    """What a YAML value is, in a word."""
    return "a list" if isinstance(value, list) else repr(value)


def _member(key: str, value: Any, folder: Path) -> Member:
    """One model's entry."""
    where = f"models.{key}"
    entry = _mapping(value, where, MODEL_KEYS)
    kind = _choice(entry.get("value_kind"), f"{where}.value_kind", VALUE_KINDS)
    base = _choice(entry.get("log_base", "e"), f"{where}.log_base", tuple(LOG_BASES)) or "e"
    if base != "e" and kind == "logit":
        raise fault(f"{where}.log_base", "e where value_kind is logit", base, "Remove it, or dump log-probabilities.")
    return Member(
        key=key,
        name=_text(entry["name"], f"{where}.name"),
        revision=_optional_text(entry.get("revision"), f"{where}.revision"),
        tokenizer=_text(entry["tokenizer"], f"{where}.tokenizer"),
        vocab_size=_vocabulary_size(entry["vocab_size"], f"{where}.vocab_size"),
        value_kind=kind,
        temperature=_temperature(entry.get("temperature", "1"), f"{where}.temperature"),
        log_base=base,
        capture=_capture_path(entry["capture"], f"{where}.capture", folder),
    )


def _text(value: Any, where: str) -> str:
    """A short printable text."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 200:
        raise fault(where, "a text of 1 to 200 printable characters", value, "Write it in quotes.")
    return value


def _optional_text(value: Any, where: str) -> str | None:
    """A short printable text, or None for nothing."""
    return None if value in (None, "", "~", "null") else _text(value, where)


def _choice(value: Any, where: str, choices: tuple[str, ...]) -> str | None:
    """One of the choices, or None where nothing was given."""
    if value is not None and value not in choices:
        raise fault(where, f"one of {', '.join(sorted(choices))}", value, "Choose one of these.")
    return None if value is None else str(value)


def _vocabulary_size(value: Any, where: str) -> int:
    """A whole number of at least 2 that int32 ids can reach."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,10}", value) or not 2 <= int(value) < 2**31:
        raise fault(where, "a whole number from 2 to 2147483647", value, "Give the number of token ids.")
    return int(value)


def _temperature(value: Any, where: str) -> float:
    """A positive finite number."""
    legal = isinstance(value, str) and re.fullmatch(r"[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value)
    number = float(value) if legal else 0.0
    if not 0 < number < math.inf:
        raise fault(where, "a positive number", value, "Give what the values were divided by; 1.0 if nothing.")
    return number


def _capture_path(value: Any, where: str, folder: Path) -> str:
    """A path inside the submission that exists: a table file or a folder of part files."""
    text = _text(value, where)
    path = PurePosixPath(text)
    outside = path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text
    target = folder / path
    if outside or not target.resolve().is_relative_to(folder.resolve()):
        raise fault(where, "a path inside the submission", text, "Put the capture beside submission.yaml.")
    if not target.is_file() and not target.is_dir():
        raise fault(where, "a file or folder of the submission", text, "Add it, or correct the name.")
    if target.is_file() and not text.endswith((".csv", ".csv.gz", ".parquet")):
        raise fault(where, "a .csv, .csv.gz or .parquet file, or a folder of part-*.parquet", text, "Convert it.")
    return text
