# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.4", "transformers>=4.56"]
# ///
"""Write a language model's top-k logits over your texts as one half of a submission folder.

    uv run extract_topk.py --model ORG/FIRST --text texts.txt --out FOLDER
    uv run extract_topk.py --model ORG/SECOND --out FOLDER

`uv` fetches what the script needs; without it: `pip install torch transformers`, then `python extract_topk.py ...`.
The first call writes submission.yaml, texts.jsonl, extraction.json and a.csv.gz; the second one adds b.csv.gz over
the same texts. One row per token: its id and characters, the logsumexp over the whole vocabulary, and the k largest
logits. A killed call goes on where it stopped when it is given again. Weights are read from safetensors only, and
no code of a model's repository is run.
"""

import argparse
import gzip
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch

SCRIPT_VERSION = 1
RECORD, DESCRIPTION, TEXTS, GENERATION = "extraction.json", "submission.yaml", "texts.jsonl", "generation.jsonl"
SLUG = re.compile(r"[a-z][a-z0-9-]{0,62}")
# Words of YAML, and pairs that the receiving side ships under these names.
RESERVED = frozenset(
    "null true false yes no on off hf tiny tiny3 gpt2-distilgpt2 pythia-410m-1b pythia-70m-160m "
    "smollm2-135m-360m".split()
)
MIN_DOCUMENTS = 20  # with fewer, no verdict is given
MIN_CONTEXT_TOKENS = 64  # what a token of a long document sees at least
WINDOW_TOKENS = 8192  # longest stretch of a document that goes through the model at once
CHUNK_LOGITS = 2**22  # float64 logits held at a time
BATCH_LOGITS = 2**29  # logits of one forward pass
GENERATED_LOGITS = 2**28  # logits kept while one batch is generated
DECODING_CONTEXT = 8  # tokens in front of generated ones that decide about a leading blank
CAUSAL_TOLERANCE_EPS = 32  # of the number type, times the largest logit
DTYPES = ("float32", "bfloat16", "float16", "float64")


class InputError(Exception):
    """Something the user has to mend: one line on stderr, exit code 2."""


def note(text: str) -> None:
    """One line on stderr."""
    print(f"extract_topk: {text}", file=sys.stderr, flush=True)


# The command line


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. `--help` lists the options.")


def parser() -> argparse.ArgumentParser:
    """Every option with its help."""
    made = _Parser(
        prog="extract_topk.py",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="A second call with another --model and the same --out adds the second model.",
    )
    add = made.add_argument
    add("--model", required=True, help="hub id, or a folder with config.json, model.safetensors and the tokenizer")
    add("--revision", help="commit, tag or branch of a hub id")
    add("--text", help=".txt or .jsonl ({'text': ..., 'doc_id': ...} per line); the second call needs none")
    add("--split", choices=("blank-lines", "whole"), default="blank-lines", help="documents of a .txt: the stretches "
        "between blank lines, or the file as one (default: blank-lines)")  # fmt: skip
    add("--out", default="submission", help="the submission folder (default: submission)")
    add("--key", choices=tuple(ascii_lowercase), metavar="a|b|...", help="place of the model (default: the next free)")
    add("--name", help="name of the submission: small letters, digits, hyphens (default: from the folder's name)")
    add("--submitter", help="who you are, if you wish")
    add("--k", type=int, default=50, help="logits per token (default: 50; a whole small vocabulary is welcome)")
    add("--max-tokens", type=int, help="stop after the document that reaches this many rows")
    add("--system", metavar="TEXT|@FILE", help="system prompt: through the chat template where there is one, else in "
        "front of the text; it is not scored. With --generate, '' is the template alone")  # fmt: skip
    add("--generate", action="store_true", help="the documents are prompts: score what the model answers")
    add("--max-new-tokens", type=int, default=128, help="longest answer (default: 128)")
    add("--temperature", type=float, default=1.0, help="of sampling; 0 takes the top token (default: 1)")
    add("--top-p", type=float, default=1.0, help="of sampling (default: 1)")
    add("--seed", type=int, default=0, help="of sampling (default: 0)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--dtype", choices=DTYPES, default="float32", help="of the model's numbers; bfloat16 halves the memory and "
        "makes the gaps between logits coarse (default: float32)")  # fmt: skip
    add("--batch-tokens", type=int, default=8192, help="tokens per forward pass; less needs less memory")
    return made


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked as far as they can be alone."""
    args = parser().parse_args(arguments)
    for name, least in (("k", 2), ("max_new_tokens", 1), ("batch_tokens", 2), ("max_tokens", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f"`--{name.replace('_', '-')}` must be at least {least}, got {value}.")
    if not 0 <= args.temperature < math.inf:
        raise InputError(f"`--temperature` must be a number of at least 0, got {args.temperature}.")
    if not 0 < args.top_p <= 1:
        raise InputError(f"`--top-p` must be above 0 and at most 1, got {args.top_p}.")
    if args.name is not None and (not SLUG.fullmatch(args.name) or args.name in RESERVED):
        raise InputError(
            f"`--name` must be small letters, digits and hyphens, a letter first, and no name that is taken, "
            f"got {args.name!r}. Choose another."
        )
    if args.submitter is not None and not _printable(args.submitter):
        raise InputError("`--submitter` must be 1 to 200 printable characters. Shorten it.")
    args.system = _system(args.system)
    if args.system == "" and not args.generate:
        raise InputError("`--system` must have text without --generate, got ''. Leave it out.")
    return args


def _system(value: str | None) -> str | None:
    """The system prompt itself, where @FILE names it."""
    if value is None or not value.startswith("@"):
        return value
    return read_utf8(Path(value[1:]).expanduser(), "--system").strip()


def read_utf8(path: Path, option: str) -> str:
    """A file's text with its line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"`{option}` must be a file that can be read, got {str(path)!r}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"`{option}` must be UTF-8 text, got other bytes at {error.start} of {str(path)!r}.") from None


def _printable(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= 200


# Documents


@dataclass(frozen=True)
class Document:
    """One text to be scored behind its prompt (None: it has none); `ids` and `ends` where another model generated it.

    `ends` are the code points at which the tokens end.
    """

    doc_id: str
    text: str
    prompt: str | None = None
    ids: tuple[int, ...] | None = None
    ends: tuple[int, ...] | None = None


def read_documents(path: Path, *, split: str) -> list[Document]:
    """The documents with text of a .txt or .jsonl file, in order."""
    text = read_utf8(path, "--text")
    if path.suffix.lower() in (".jsonl", ".json"):
        documents = _json_documents(text, path)
    elif split == "whole":
        documents = [Document(path.stem, text)]
    else:
        pieces = (piece.strip("\r\n") for piece in re.split(r"(?:\r?\n[ \t]*){2,}", text))
        documents = [Document(f"{number:06d}", p) for number, p in enumerate(p for p in pieces if p.strip())]
    documents = [document for document in documents if document.text.strip()]
    if not documents:
        raise InputError(f"`--text` must hold a document with text, got none in {str(path)!r}.")
    return documents


def _json_documents(text: str, path: Path) -> list[Document]:
    """One document per line; the line's number is its name where it has none."""
    documents: dict[str, Document] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            document = _json_document(line, number, path)
            if document.doc_id in documents:
                raise InputError(f"`--text` must name a document once, got {document.doc_id!r} again in line {number}.")
            documents[document.doc_id] = document
    return list(documents.values())


def _json_document(line: str, number: int, path: Path) -> Document:
    where = f"line {number} of {str(path)!r}"
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise InputError(f'`--text` must hold {{"text": ...}} in every line of a .jsonl, got {line[:60]!r} in {where}.')
    doc_id = str(entry.get("doc_id", entry.get("id", f"{number - 1:06d}")))
    if not _printable(doc_id):
        raise InputError(
            f"`--text` must name documents in 1 to 200 printable characters, got {doc_id[:60]!r} in {where}."
        )
    try:
        entry["text"].encode()
    except UnicodeEncodeError:
        raise InputError(f"`--text` must be valid Unicode, got a lone surrogate in {where}.") from None
    return Document(doc_id, entry["text"])


def fingerprint(documents: Sequence[Document]) -> str:
    """SHA-256 over names and texts, in order."""
    digest = hashlib.sha256()
    for document in documents:
        for part in (document.doc_id, document.text):
            digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return digest.hexdigest()


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from (json.loads(line) for line in file)


# The submission folder


@dataclass
class Call:
    """What one call has to do: which model goes where, over which documents, in which way.

    `is_done`: nothing, it is there already. `generates`: the documents are prompts to be answered by this model.
    """

    folder: Path
    key: str
    arguments: dict[str, Any]
    record: dict[str, Any]
    documents: list[Document] = field(default_factory=list)
    is_done: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this call decides about the texts."""
        return not self.record["models"]

    @property
    def generates(self) -> bool:
        """Whether this model answers prompts."""
        return self.is_first and self.record["texts"]["mode"] == "generation"

    @property
    def partial(self) -> Path:
        """Where an unfinished call keeps what it has."""
        return self.folder / f".{self.key}.partial"


def plan_call(args: argparse.Namespace) -> Call:
    """What the options mean for the folder as it is; InputError where they do not go with an earlier call."""
    folder = Path(args.out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`--out` must be a folder, got the file {str(folder)!r}. Choose another.")
    given = read_documents(Path(args.text).expanduser(), split=args.split) if args.text else None
    record = read_record(folder)
    key, is_done = place_of(args, record)
    call = Call(folder, key, arguments_of(args), record or first_record(args, given), is_done=is_done)
    if record is None:
        _refuse_foreign(call)
    else:
        _check_same_texts(args, record, given)
    if not is_done:
        call.documents = (given or []) if call.is_first else earlier_documents(folder, call.record)
    return call


def arguments_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options that say what a model's rows are."""
    model = str(Path(args.model).resolve()) if Path(args.model).is_dir() else args.model
    return {"model": model, "revision": args.revision, "k": args.k, "dtype": args.dtype}


def read_record(folder: Path) -> dict[str, Any] | None:
    """What earlier calls wrote down; None before the first."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] == SCRIPT_VERSION:
            return dict(record)
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"`{path}` must be what this version of the script wrote, got other content. Use another --out.")


def first_record(args: argparse.Namespace, documents: list[Document] | None) -> dict[str, Any]:
    """What is written down about the texts by the call that brings them."""
    if documents is None:
        raise InputError("`--text` must be a .txt or .jsonl file in the first call, got nothing. Say --text FILE.")
    sampling = {name: getattr(args, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")}
    texts = {
        "mode": "generation" if args.generate else "teacher_forced",
        "source_sha256": fingerprint(documents),
        "system": args.system,
        "max_tokens": args.max_tokens,
        "sampling": {**sampling, "top_k": 0} if args.generate else None,
    }
    return {"version": SCRIPT_VERSION, "texts": texts, "models": {}}


def place_of(args: argparse.Namespace, record: dict[str, Any] | None) -> tuple[str, bool]:
    """The model's letter, and whether it is there already."""
    asked = arguments_of(args)
    models = record["models"] if record else {}
    for key, entry in models.items():
        had = entry["arguments"]
        if had == asked and args.key in (None, key):
            return key, True
        is_same_model = (had["model"], had["revision"]) == (asked["model"], asked["revision"])
        if key == args.key or (is_same_model and args.key is None):
            settings = ", ".join(f"{name} {value}" for name, value in had.items() if value is not None)
            raise InputError(
                f"`{key}` is there already in {args.out!r} ({settings}). Use another --out or another --key."
            )
    return args.key or next(letter for letter in ascii_lowercase if letter not in models), False


def _refuse_foreign(call: Call) -> None:
    """A folder with a submission that this script did not begin is left alone."""
    names = [DESCRIPTION, TEXTS, GENERATION, f"{call.key}.csv.gz"]
    there = [name for name in names if (call.folder / name).exists()]
    if there and not call.partial.is_dir():
        raise InputError(
            f"`--out` must be a new folder or one of this script's, got {str(call.folder)!r} with {there[0]} "
            f"and no {RECORD}. Choose another."
        )


def _check_same_texts(args: argparse.Namespace, record: dict[str, Any], given: list[Document] | None) -> None:
    """A second model is run over the texts of the first one, under the same prompt."""
    texts = record["texts"]
    if given is not None and fingerprint(given) != texts["source_sha256"]:
        raise InputError(
            f"`--text` must be the text of the first call into {args.out!r}, got another. Leave --text out."
        )
    if args.system is not None and args.system != texts["system"]:
        raise InputError("`--system` must be that of the first call, got another. Leave --system out.")
    if args.generate and texts["mode"] != "generation":
        raise InputError(f"`--generate` must be in the first call into {args.out!r}, got a second one. Leave it out.")


def earlier_documents(folder: Path, record: dict[str, Any]) -> list[Document]:
    """The documents of the first call; generated ones with their prompts and tokens."""
    documents = [Document(entry["doc_id"], entry["text"]) for entry in _json_lines(folder / TEXTS)]
    if record["texts"]["mode"] != "generation":
        return documents
    return [
        replace(d, prompt=entry["prompt"], ids=tuple(entry["token_ids"]), ends=tuple(entry["char_ends"]))
        for d, entry in zip(documents, _json_lines(folder / GENERATION), strict=True)
    ]


# The model


@dataclass(frozen=True)
class Model:
    """A model ready to score; logits of ids from `vocabulary_size` on belong to no token and are left out.

    `beginning_id` opens every document (the tokenizer's BOS, else its EOS); None: a first token cannot be scored.
    """

    model: Any
    tokenizer: Any
    device: "torch.device"
    name: str
    revision: str | None
    vocabulary_size: int
    padded_size: int
    tokenizer_sha256: str
    beginning_id: int | None
    context_tokens: int

    @property
    def min_context_tokens(self) -> int:
        """What a token of a document longer than the context sees at least."""
        return max(1, min(MIN_CONTEXT_TOKENS, self.context_tokens // 2))

    def ids_of(self, text: str) -> list[int]:
        """A text's tokens, without any that the tokenizer would put around it."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def load(args: argparse.Namespace) -> Model:
    """Load a model and its tokenizer; InputError where it is not a causal language model in safetensors."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} must be installed. Start the script with `uv run`, or `pip install torch "
            "transformers` first."
        )
    note(f"loading {args.model}")
    device = _device(args.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _be_quiet()
        tokenizer, model = _load_tokenizer(args), _load_weights(args, device)
    return _described(args, model, tokenizer, device)


def _device(name: str) -> "torch.device":
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    if not there.get(name.split(":")[0], False):
        usable = ", ".join(["auto", *(kind for kind, is_there in there.items() if is_there)])
        raise InputError(f"`--device` must be one of {usable} on this machine, got {name!r}.")
    return torch.device(name)


def _be_quiet() -> None:
    """No advice from transformers; a download may show its progress."""
    hub: Any = importlib.import_module("huggingface_hub.utils")
    logging: Any = importlib.import_module("transformers.utils.logging")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.enable_progress_bars()


def _load_tokenizer(args: argparse.Namespace) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(args.model, revision=args.revision, trust_remote_code=False)
    except Exception as error:
        raise InputError(f"`--model` must have a tokenizer, got for {args.model!r}: {_first_line(error)}.") from None


def _load_weights(args: argparse.Namespace, device: "torch.device") -> Any:
    """The causal language model; a weight that the files lack is an error, never a random number."""
    import torch
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    try:
        model, info = loader.from_pretrained(
            args.model,
            revision=args.revision,
            dtype=getattr(torch, args.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise InputError(
            f"`--model` must be a causal language model in safetensors, got for {args.model!r}: {_first_line(error)}. "
            "Check the id, the revision and the network."
        ) from None
    if info["missing_keys"]:
        first = sorted(info["missing_keys"])[0]
        raise InputError(f"`--model` must have every weight of {type(model).__name__}, got none for {first!r}.")
    return model.to(device).eval()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split()).rstrip(".:")[:300]


def _described(args: argparse.Namespace, model: Any, tokenizer: Any, device: "torch.device") -> Model:
    """The model with what has to be known about it."""
    padded = _probe(model, args.model)
    table: dict[str, int] = tokenizer.get_vocab()
    is_folder = Path(args.model).is_dir()
    name = Path(args.model).resolve().name if is_folder else args.model
    revision = None if is_folder else getattr(model.config, "_commit_hash", None) or args.revision
    candidates = (i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None and i < padded)
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return Model(
        model=model,
        tokenizer=tokenizer,
        device=device,
        name="".join(c for c in name if c.isprintable())[:200] or "unnamed",
        revision=revision,
        vocabulary_size=min(padded, max(table.values()) + 1),
        padded_size=padded,
        tokenizer_sha256=table_fingerprint(table),
        beginning_id=next(candidates, None),
        context_tokens=min(int(stated) if stated else WINDOW_TOKENS, WINDOW_TOKENS, args.batch_tokens),
    )


def _probe(model: Any, name: str) -> int:
    """Number of logits per position; refuses a model whose logits change with later tokens."""
    import torch

    rows = torch.arange(1, 9, device=model.device).repeat(2, 1) % int(model.get_input_embeddings().num_embeddings)
    rows[1, -1] = 0
    with torch.inference_mode():
        logits = model(input_ids=rows, use_cache=False).logits.float()
    tolerance = CAUSAL_TOLERANCE_EPS * torch.finfo(model.dtype).eps * float(logits.abs().max())
    if float((logits[0, :-1] - logits[1, :-1]).abs().max()) > tolerance:
        raise InputError(f"`--model` must be a causal language model, got {name!r}, which sees the tokens it predicts.")
    return int(logits.shape[-1])


def table_fingerprint(table: dict[str, int]) -> str:
    """SHA-256 of a tokenizer's id-to-string table: equal ones mean that ids are shared."""
    rows = sorted((index, token) for token, index in table.items())
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


# Tokens


@dataclass(frozen=True)
class Tokens:
    """One document's tokens behind those that lead to it and are not scored; `spans` None where nobody knows them."""

    document: Document
    lead: list[int]
    ids: list[int]
    spans: list[tuple[int, int]] | None
    n_kept: int = 0  # leading tokens that stand in front of every window of a long document

    @property
    def sequence(self) -> list[int]:
        """Everything the model sees."""
        return self.lead + self.ids

    @property
    def first_target(self) -> int:
        """Place of the first scored token in the sequence."""
        return max(len(self.lead), 1)

    @property
    def first_position(self) -> int:
        """Place of the first scored token in the document."""
        return self.first_target - len(self.lead)

    @property
    def n_scored(self) -> int:
        """Rows."""
        return max(0, len(self.ids) - self.first_position)


def lead_of(model: Model, system: str | None, prompt: str | None) -> list[int]:
    """The tokens in front of a document: beginning token, system prompt, prompt."""
    beginning = [] if model.beginning_id is None else [model.beginning_id]
    if system is None:
        return beginning + (model.ids_of(prompt) if prompt else [])
    if getattr(model.tokenizer, "chat_template", None):
        return model.ids_of(_rendered(model, system, prompt))
    return beginning + model.ids_of("\n\n".join(part for part in (system, prompt) if part) + "\n\n" * (prompt is None))


def _rendered(model: Model, system: str, prompt: str | None) -> str:
    """The chat up to where the model speaks; templates without a system's turn get it as the user's."""
    user = [] if prompt is None else [{"role": "user", "content": prompt}]
    turns = [{"role": "system", "content": system}] if system else []
    folded = [{"role": "user", "content": "\n\n".join(part for part in (system, prompt) if part)}]
    reason = ""
    for messages in (turns + user, folded):
        try:
            return str(model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # templates raise what they like
            reason = _first_line(error)
    raise InputError(
        f"`--system` must be something the chat template of {model.name} takes, got: {reason}. Leave it out."
    )


def tokens_of(document: Document, model: Model, texts: dict[str, Any]) -> Tokens:
    """A document's tokens; those of another model with the same tokenizer as they were generated."""
    lead = lead_of(model, texts["system"], document.prompt)
    if document.ids is not None and document.ends is not None and texts["tokenizer"] == model.tokenizer_sha256:
        return Tokens(document, lead, list(document.ids), spans_between(document.ends))
    wants = {"return_offsets_mapping": True} if model.tokenizer.is_fast else {}
    encoded = model.tokenizer(document.text, add_special_tokens=False, verbose=False, **wants)
    ids = list(encoded["input_ids"])
    if ids and max(ids) >= model.vocabulary_size:
        raise InputError(
            f"`--model` must have a logit for every token, got id {max(ids)} in document {document.doc_id!r} "
            f"and {model.vocabulary_size} logits. Use the model's own tokenizer."
        )
    spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]] if wants else None
    n_kept = len(lead) if texts["system"] and document.prompt is None else 0
    if n_kept + model.min_context_tokens >= model.context_tokens:
        raise InputError(
            f"`--system` must leave room in the context of {model.context_tokens} tokens, got {n_kept} of them."
        )
    return Tokens(document, lead, ids, spans, n_kept)


def spans_between(ends: Sequence[int]) -> list[tuple[int, int]]:
    """Spans from where each token ends."""
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


# Windows


@dataclass(frozen=True)
class Window:
    """Input tokens [0, n_kept) and [start, stop) of one sequence; it scores first_target..stop (inclusive)."""

    start: int
    stop: int
    first_target: int
    n_kept: int = 0

    @property
    def n_tokens(self) -> int:
        """Input tokens."""
        return self.n_kept + self.stop - self.start

    @property
    def n_targets(self) -> int:
        """Scored positions."""
        return self.stop - self.first_target + 1

    @property
    def first_row(self) -> int:
        """Input position that predicts the first target."""
        return self.n_kept + self.first_target - 1 - self.start


def plan_windows(
    n_tokens: int, *, first_target: int, n_kept: int, context_tokens: int, min_context_tokens: int
) -> list[Window]:
    """Windows that score the tokens of a sequence from `first_target` on once each.

    A sequence that fits is one window. In a longer one, windows overlap so that every token has at least
    `min_context_tokens` in front of it, and the first `n_kept` tokens stand before each.
    """
    windows: list[Window] = []
    target = first_target
    while target < n_tokens:
        fits = not windows and target <= context_tokens
        start = 0 if fits else max(n_kept, target - min_context_tokens)
        kept = n_kept if start > 0 else 0
        stop = min(start + context_tokens - kept, n_tokens - 1)
        windows.append(Window(start, stop, target, kept))
        target = stop + 1
    return windows


def bucket(lengths: Sequence[int], *, batch_tokens: int) -> list[list[int]]:
    """Indices in batches of similar length, longest first; rows times the longest stay within `batch_tokens`."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches = []
    first = 0
    while first < len(order):
        n_rows = max(1, batch_tokens // lengths[order[first]])
        batches.append(order[first : first + n_rows])
        first += n_rows
    return batches


# Scoring


def score(
    model: Model, members: Sequence[Tokens], *, k: int, batch_tokens: int, on_rows: Callable[[int], None]
) -> list[list[str]]:
    """Per document its rows from logsumexp on, as CSV."""
    placed = [
        (index, window)
        for index, tokens in enumerate(members)
        for window in plan_windows(
            len(tokens.sequence),
            first_target=tokens.first_target,
            n_kept=tokens.n_kept,
            context_tokens=model.context_tokens,
            min_context_tokens=model.min_context_tokens,
        )
    ]
    rows = [[""] * tokens.n_scored for tokens in members]
    affordable = min(batch_tokens, max(1, BATCH_LOGITS // model.padded_size))
    for batch in bucket([window.n_tokens for _, window in placed], batch_tokens=affordable):
        chosen = [placed[index] for index in batch]
        found = iter(_score_batch(model, [(members[index].sequence, window) for index, window in chosen], k=k))
        for index, window in chosen:
            first = window.first_target - members[index].first_target
            rows[index][first : first + window.n_targets] = [next(found) for _ in range(window.n_targets)]
            on_rows(window.n_targets)
    return rows


def _score_batch(model: Model, members: Sequence[tuple[list[int], Window]], *, k: int) -> list[str]:
    """One forward pass. Rows are padded on the right, which a causal model cannot see from the positions before."""
    import torch

    longest = max(window.n_tokens for _, window in members)
    inputs = torch.zeros((len(members), longest), dtype=torch.int64)
    kept: list[int] = []
    targets: list[int] = []
    for row, (sequence, window) in enumerate(members):
        tokens = sequence[: window.n_kept] + sequence[window.start : window.stop]
        inputs[row, : window.n_tokens] = torch.tensor(tokens)
        kept += range(row * longest + window.first_row, row * longest + window.n_tokens)
        targets += sequence[window.first_target : window.stop + 1]
    with torch.inference_mode():
        logits = model.model(input_ids=inputs.to(model.device), use_cache=False).logits.flatten(0, 1)
        return _reduce(model, logits, kept, targets, k=k)


def _reduce(model: Model, logits: "torch.Tensor", kept: list[int], targets: list[int], *, k: int) -> list[str]:
    """The kept rows of logits as CSV, in chunks: never all of them in float64 at once."""
    import torch

    found: list[str] = []
    n_rows = max(1, CHUNK_LOGITS // logits.shape[-1])
    for first in range(0, len(targets), n_rows):
        index = torch.tensor(kept[first : first + n_rows], device=logits.device)
        chunk = logits.index_select(0, index)[:, : model.vocabulary_size].to(torch.float32)
        if chunk.device.type == "mps":  # no float64 there
            chunk = chunk.cpu()
        found += csv_rows(chunk, torch.tensor(targets[first : first + n_rows], device=chunk.device), k=k)
    return found


def csv_rows(logits: "torch.Tensor", targets: "torch.Tensor", *, k: int) -> list[str]:
    """The columns from logsumexp on, of float32 logits (n, V) and realised ids (n,); sums are in float64."""
    import torch

    ids, values = top_k(logits, k=k)
    wide = logits.to(torch.float64)
    logsumexp = torch.logsumexp(wide, dim=-1)
    entropy = torch.special.entr(torch.exp(wide - logsumexp[:, None])).sum(dim=-1).to(torch.float32)
    target = logits.gather(1, targets[:, None])
    lower_id = torch.arange(logits.shape[-1], device=logits.device)[None, :] < targets[:, None]
    rank = 1 + ((logits > target) | ((logits == target) & lower_id)).sum(dim=-1)
    if not all(bool(torch.isfinite(column).all()) for column in (values, target, logsumexp)):
        raise InputError("`--model` must give finite logits, got NaN or infinity. Try --dtype float32.")
    head = zip(logsumexp.tolist(), target[:, 0].tolist(), rank.tolist(), entropy.tolist(), strict=True)
    # Nine digits give back every float32, and repr every float64.
    template = ",".join(["%r", "%.9g", "%d", "%.9g", *["%d"] * k, *["%.9g"] * k])
    return [template % (*h, *i, *v) for h, i, v in zip(head, ids.tolist(), values.tolist(), strict=True)]


def top_k(logits: "torch.Tensor", *, k: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Ids and values of the k largest of each row (n, V), best first; equal values are ordered by the lower id."""
    import torch

    values, ids = torch.topk(logits, k, dim=-1)
    smallest = values[:, -1:]
    tied = torch.nonzero((logits == smallest).sum(dim=-1) > (values == smallest).sum(dim=-1))[:, 0]
    if tied.numel():
        rows = logits[tied]
        above, level = rows > smallest[tied], rows == smallest[tied]
        chosen = above | (level & (level.cumsum(dim=-1) <= k - above.sum(dim=-1, keepdim=True)))
        ids[tied] = torch.nonzero(chosen)[:, 1].reshape(-1, k)
    ids = ids.sort(dim=-1).values
    values = logits.gather(1, ids)
    order = values.sort(dim=-1, descending=True, stable=True)
    return ids.gather(1, order.indices), order.values


# Generation


def generate(
    model: Model, prompts: Sequence[Document], leads: Sequence[list[int]], sampling: dict[str, Any], *, k: int
) -> tuple[list[Tokens], list[list[str]]]:
    """Answers to some prompts, and their rows from the logits as they were before anything was done to sample."""
    import torch

    longest = max(map(len, leads))
    inputs = torch.zeros((len(leads), longest), dtype=torch.int64)
    mask = torch.zeros_like(inputs)
    for row, lead in enumerate(leads):
        inputs[row, longest - len(lead) :] = torch.tensor(lead)
        mask[row, longest - len(lead) :] = 1
    # The batch's own seed: a call that goes on draws what an uninterrupted one would have drawn.
    seed = hashlib.sha256(f"{sampling['seed']}:{prompts[0].doc_id}".encode()).digest()
    torch.manual_seed(int.from_bytes(seed[:4], "big"))
    made = model.model.generate(
        input_ids=inputs.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=model.model.generation_config,
    )
    answers = made.sequences[:, longest:].tolist()
    ids = [_up_to_end(answer, model.model.generation_config.eos_token_id) for answer in answers]
    members = [_answered(model, *parts) for parts in zip(prompts, leads, ids, strict=True)]
    rows = []
    for row, answer in enumerate(ids):
        logits = torch.stack([step[row] for step in made.logits[: len(answer)]])
        rows.append(_reduce(model, logits, list(range(len(answer))), answer, k=k))
    return members, rows


def set_sampling(model: Model, sampling: dict[str, Any]) -> None:
    """Sampling as asked for and nothing else: no top-k, penalty or forced token of the model's own settings."""
    from transformers import GenerationConfig

    ends = getattr(model.model.generation_config, "eos_token_id", None)
    ends = model.tokenizer.eos_token_id if ends is None else ends
    if sampling["max_new_tokens"] >= model.context_tokens:
        raise InputError(f"`--max-new-tokens` must be below the context of {model.context_tokens} tokens.")
    drawn = sampling["temperature"] > 0
    more = {"temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": 0} if drawn else {}
    padding = list(range(model.vocabulary_size, model.padded_size))
    config: Any = GenerationConfig
    model.model.generation_config = config(
        max_new_tokens=sampling["max_new_tokens"],
        do_sample=drawn,
        eos_token_id=ends,
        pad_token_id=ends[0] if isinstance(ends, list) else ends if ends is not None else 0,
        suppress_tokens=padding or None,
        output_logits=True,
        return_dict_in_generate=True,
        **more,
    )


def _up_to_end(ids: list[int], ends: int | list[int] | None) -> list[int]:
    """The tokens up to the first that ends an answer, and that one."""
    closing = set(ends) if isinstance(ends, list) else {ends}
    stop = next((place for place, token in enumerate(ids) if token in closing), len(ids) - 1)
    return ids[: stop + 1]


def _answered(model: Model, prompt: Document, lead: list[int], ids: list[int]) -> Tokens:
    """An answer as a document behind its prompt."""
    text, ends = decoded(model.tokenizer, lead, ids)
    document = Document(prompt.doc_id, text, prompt.text, tuple(ids), tuple(ends))
    return Tokens(document, lead, ids, spans_between(ends))


def decoded(tokenizer: Any, lead: list[int], ids: list[int]) -> tuple[str, list[int]]:
    """The text of generated tokens, and the code point at which each ends; half a one with its last."""
    context = lead[-DECODING_CONTEXT:]

    def decode(tokens: list[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    n_before = len(decode(context))
    ends: list[int] = []
    text = ""
    for n in range(1, len(ids) + 1):
        text = decode(context + ids[:n])[n_before:]
        before = ends[-1] if ends else 0
        ends.append(before if text.endswith("\ufffd") and n < len(ids) else max(before, len(text)))
    return text, ends


# Chunks of documents that are finished together


@dataclass(frozen=True)
class Chunk:
    """Documents with their rows (from logsumexp on, as CSV)."""

    members: list[Tokens]
    rows: list[list[str]]
    n_documents: int  # taken from the list, with those that gave no row


def scored_chunks(call: Call, model: Model, args: argparse.Namespace, first: int, show: "Progress") -> Iterator[Chunk]:
    """The documents from `first` on, as many at a time as fill a forward pass."""
    held: list[Tokens] = []
    for document in call.documents[first:]:
        tokens = tokens_of(document, model, call.record["texts"])
        if held and sum(len(t.ids) for t in held) + len(tokens.ids) > args.batch_tokens:
            yield _scored(model, held, args, show)
            held = []
        held.append(tokens)
    if held:
        yield _scored(model, held, args, show)


def _scored(model: Model, held: list[Tokens], args: argparse.Namespace, show: "Progress") -> Chunk:
    members = [tokens for tokens in held if tokens.n_scored > 0]
    rows = score(model, members, k=args.k, batch_tokens=args.batch_tokens, on_rows=show.rows)
    return Chunk(members, rows, len(held))


def generated_chunks(
    call: Call, model: Model, args: argparse.Namespace, first: int, show: "Progress"
) -> Iterator[Chunk]:
    """The prompts from `first` on, as many at a time as the memory allows."""
    texts = call.record["texts"]
    sampling = texts["sampling"]
    set_sampling(model, sampling)
    room = model.context_tokens - sampling["max_new_tokens"]
    n_most = max(1, GENERATED_LOGITS // (model.padded_size * sampling["max_new_tokens"]))
    held: list[tuple[Document, list[int]]] = []
    for prompt in call.documents[first:]:
        lead = lead_of(model, texts["system"], prompt.text)[-room:]
        if not lead:
            raise InputError(f"`--generate` must have prompts of at least one token, got none in {prompt.doc_id!r}.")
        longest = sampling["max_new_tokens"] + max([len(lead), *(len(other) for _, other in held)])
        if held and (len(held) >= n_most or longest * (len(held) + 1) > args.batch_tokens):
            yield _generated(model, held, sampling, args, show)
            held = []
        held.append((prompt, lead))
    if held:
        yield _generated(model, held, sampling, args, show)


def _generated(
    model: Model,
    held: list[tuple[Document, list[int]]],
    sampling: dict[str, Any],
    args: argparse.Namespace,
    show: "Progress",
) -> Chunk:
    members, rows = generate(model, [prompt for prompt, _ in held], [lead for _, lead in held], sampling, k=args.k)
    show.rows(sum(map(len, rows)))
    return Chunk(members, rows, len(held))


# What is kept of an unfinished call


class Journal:
    """Files that grow by whole chunks, and after each a line that says how long they are.

    Whatever a killed call wrote behind the last such line is cut off by the next one. The rows are gzip members one
    behind the other, which is one gzip file, so that they can be added to.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self._path = folder / "journal.jsonl"
        self._settings = json.loads(json.dumps(settings))
        self.state: dict[str, Any] = {"documents": 0, "kept": 0, "rows": 0, "places": "", "bytes": {}}
        self._open()

    def _open(self) -> None:
        """Go on behind what is there, or begin."""
        had, last = self._read()
        if had is not None and had["arguments"]["model"] != self._settings["arguments"]["model"]:
            raise InputError(
                f"`{self.folder.parent}` holds an unfinished call for {had['arguments']['model']!r}. Finish it with "
                f"the same command, or delete {self.folder}."
            )
        if had == self._settings and last is not None and self._cut(last):
            self.state = last
            if last["documents"]:
                note(f"going on behind {last['documents']:,} documents that are done")
        elif had is not None:
            if last is not None:
                note("starting again: the settings or versions are not those of the interrupted call")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_text(self._path, json.dumps(self._settings) + "\n" + json.dumps(self.state) + "\n")

    def _read(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """The settings of an earlier call, and its last whole line."""
        if not self._path.is_file():
            return None, None
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]  # the last one was not finished
        try:
            entries = [json.loads(line) for line in lines]
        except ValueError:
            return None, None
        return (entries[0] if entries else None), (entries[-1] if len(entries) > 1 else None)

    def _cut(self, state: dict[str, Any]) -> bool:
        """Cut the files to their stated lengths; False where one is shorter."""
        if state.get("finished"):
            return True
        for name, size in state["bytes"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size < size:
                return False
            os.truncate(path, size)
        return True

    def discard_empty(self) -> None:
        """Leave nothing behind where there is nothing to go on from."""
        if not self.state["rows"]:
            shutil.rmtree(self.folder)
            if not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()

    def commit(self, pieces: dict[str, bytes], **changes: Any) -> None:
        """Add to the files, then say so."""
        sizes = dict(self.state["bytes"])
        for name, piece in pieces.items():
            with (self.folder / name).open("ab") as file:
                file.truncate(sizes.get(name, 0))
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            sizes[name] = sizes.get(name, 0) + len(piece)
        self.state = {**self.state, **changes, "bytes": sizes}
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(self.state) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    partial.replace(path)


class Progress:
    """A line on stderr that counts: rewritten on a terminal, else a new one every half minute."""

    def __init__(self, n_characters: int) -> None:
        self._n_characters = max(1, n_characters)
        self._done = self._before = self._rows = 0
        self._started = self._shown = time.monotonic()
        self._rewrites = sys.stderr.isatty()

    def skip(self, n_characters: int) -> None:
        """What an earlier call did."""
        self._done = self._before = n_characters

    def rows(self, n: int) -> None:
        """Count rows."""
        self._rows += n
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._rewrites else 30.0):
            self._shown = now
            self._show(now - self._started)

    def documents(self, members: Sequence[Document]) -> None:
        """Count finished documents."""
        self._done += sum(len(document.text) for document in members)

    def _show(self, seconds: float) -> None:
        share = self._done / self._n_characters
        new = (self._done - self._before) / self._n_characters
        left = f", about {(1 - share) / new * seconds:,.0f} s left" if new else ""
        line = f"{share:4.0%} of the text, {self._rows:,} rows, {self._rows / seconds:,.0f} rows/s{left}"
        if self._rewrites:
            print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
        else:
            note(line)

    def close(self) -> None:
        """Leave the terminal's line empty."""
        if self._rewrites:
            print("\r" + " " * 78 + "\r", end="", file=sys.stderr, flush=True)


# One call


def run(args: argparse.Namespace) -> Call:
    """Add one model to a folder, unless it is there."""
    call = plan_call(args)
    if call.is_done:
        note(f"{args.model} is there already as {call.key}")
        shutil.rmtree(call.partial, ignore_errors=True)
        return call
    model = load(args)
    if args.k > model.vocabulary_size:
        note(f"k is {model.vocabulary_size}: the whole vocabulary")
        args.k = model.vocabulary_size
    journal = Journal(call.partial, settings_of(call, model, args))
    if not journal.state.get("finished"):
        try:
            _fill(call, model, args, journal)
        except InputError:
            journal.discard_empty()
            raise
    publish(call, model, args, journal)
    return call


def settings_of(call: Call, model: Model, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that an interrupted call and the one that goes on must have in common."""
    return {
        "version": SCRIPT_VERSION,
        "arguments": {**call.arguments, "k": args.k},
        "texts": call.record["texts"],
        "documents_sha256": fingerprint(call.documents),
        "revision": model.revision,
        "tokenizer": model.tokenizer_sha256,
        "vocabulary": [model.vocabulary_size, model.padded_size],
        "context_tokens": model.context_tokens,
        "device": model.device.type,
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Versions of what computes."""
    names = ("tokenizers", "torch", "transformers")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _fill(call: Call, model: Model, args: argparse.Namespace, journal: Journal) -> None:
    """Score or generate what is left, chunk by chunk."""
    first = journal.state["documents"]
    show = Progress(sum(len(document.text) for document in call.documents))
    show.skip(sum(len(document.text) for document in call.documents[:first]))
    most = call.record["texts"]["max_tokens"] if call.is_first else None
    chunks = generated_chunks if call.generates else scored_chunks
    try:
        if most is None or journal.state["rows"] < most:
            for chunk in chunks(call, model, args, first, show):
                done = journal.state["documents"]
                _commit(call, journal, _up_to(chunk, None if most is None else most - journal.state["rows"]), k=args.k)
                show.documents(call.documents[done : journal.state["documents"]])
                if most is not None and journal.state["rows"] >= most:
                    break
    finally:
        show.close()
    if not journal.state["rows"]:
        raise InputError(f"`--text` must give {model.name} a token to score, got none.")
    journal.commit({}, finished=True)


def _up_to(chunk: Chunk, most: int | None) -> Chunk:
    """The documents of a chunk up to the one that reaches `most` rows."""
    n_rows = 0
    for index, rows in enumerate(chunk.rows if most is not None else []):
        n_rows += len(rows)
        if most is not None and n_rows >= most:
            return Chunk(chunk.members[: index + 1], chunk.rows[: index + 1], chunk.n_documents)
    return chunk


def _commit(call: Call, journal: Journal, chunk: Chunk, *, k: int) -> None:
    """Keep a chunk: its rows and, where this call decides about them, its texts."""
    places = journal.state["places"]
    lines = []
    if chunk.members and not journal.state["rows"]:
        lines.append(header(k, spans=chunk.members[0].spans is not None))
    for tokens, rows in zip(chunk.members, chunk.rows, strict=True):
        lines += document_lines(tokens, rows)
        place = json.dumps([places, tokens.document.doc_id, tokens.first_position, tokens.ids])
        places = hashlib.sha256(place.encode()).hexdigest()
    text = "".join(line + "\n" for line in lines)
    pieces = {f"{call.key}.csv.gz": gzip.compress(text.encode(), 6, mtime=0)} if text else {}
    if call.is_first:
        pieces[TEXTS] = _dumped([{"doc_id": t.document.doc_id, "text": t.document.text} for t in chunk.members])
    if call.generates:
        pieces[GENERATION] = _dumped([_generation_entry(tokens.document) for tokens in chunk.members])
    journal.commit(
        pieces,
        documents=journal.state["documents"] + chunk.n_documents,
        rows=journal.state["rows"] + sum(map(len, chunk.rows)),
        places=places,
        kept=journal.state["kept"] + len(chunk.members),
    )


def header(k: int, *, spans: bool) -> str:
    """The names of the columns."""
    fixed = "doc_id position token_id char_start char_end logsumexp target_logit target_rank entropy".split()
    names = [name for name in fixed if spans or not name.startswith("char_")]
    return ",".join(names + [f"{kind}_{rank}" for kind in ("id", "logit") for rank in range(1, k + 1)])


def document_lines(tokens: Tokens, rows: list[str]) -> list[str]:
    """A document's rows as CSV."""
    doc_id = tokens.document.doc_id
    if any(character in doc_id for character in ',"'):
        doc_id = '"' + doc_id.replace('"', '""') + '"'
    first = tokens.first_position
    lines = []
    for place, row in enumerate(rows, start=first):
        span = "" if tokens.spans is None else "{},{},".format(*tokens.spans[place])
        lines.append(f"{doc_id},{place},{tokens.ids[place]},{span}{row}")
    return lines


def _generation_entry(document: Document) -> dict[str, Any]:
    return {
        "doc_id": document.doc_id,
        "prompt": document.prompt,
        "token_ids": document.ids,
        "char_ends": document.ends,
    }


def _dumped(entries: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()


def publish(call: Call, model: Model, args: argparse.Namespace, journal: Journal) -> None:
    """Give the finished files their places, the description last; a call killed in between does it again."""
    for name in journal.state["bytes"]:
        if (journal.folder / name).exists():
            (journal.folder / name).replace(call.folder / name)
    entry = model_entry(call, model, args, journal)
    _say_what_differs(call, model, entry)
    if call.is_first:
        call.record["texts"]["tokenizer"] = model.tokenizer_sha256
        call.record["texts"]["documents"] = entry["documents"]
    call.record["models"][call.key] = entry
    description = call.folder / DESCRIPTION
    text = description.read_text(encoding="utf-8") if description.is_file() else description_head(call.folder, args)
    replace_text(description, with_model(text, call.key, entry))
    replace_text(call.folder / RECORD, json.dumps(call.record, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(journal.folder)


def model_entry(call: Call, model: Model, args: argparse.Namespace, journal: Journal) -> dict[str, Any]:
    """What is written down about a model and its rows."""
    return {
        "arguments": call.arguments,
        "name": model.name,
        "revision": model.revision,
        "tokenizer": tokenizer_name(call, model, journal.state["places"]),
        "vocab_size": model.vocabulary_size,
        "padded_vocabulary_size": model.padded_size,
        "mode": "generation" if call.generates else "teacher_forced",
        "k": args.k,
        "dtype": args.dtype,
        "device": model.device.type,
        "batch_tokens": args.batch_tokens,
        "context_tokens": model.context_tokens,
        "beginning_id": model.beginning_id,
        "rows": journal.state["rows"],
        "documents": journal.state["kept"],
        "places_sha256": journal.state["places"],
        "packages": package_versions(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def tokenizer_name(call: Call, model: Model, places: str) -> str:
    """The hash of the id table; with the letter where one table cuts the text otherwise than an earlier model's."""
    own = model.tokenizer_sha256
    shared = [
        e for e in call.record["models"].values() if (e["tokenizer"], e["vocab_size"]) == (own, model.vocabulary_size)
    ]
    return own if all(entry["places_sha256"] == places for entry in shared) else f"{own} {call.key}"


def _say_what_differs(call: Call, model: Model, entry: dict[str, Any]) -> None:
    """What limits the tests, in a line each."""
    if call.is_first and entry["documents"] < MIN_DOCUMENTS:
        note(f"{entry['documents']} documents; a verdict takes at least {MIN_DOCUMENTS}. More texts need a new --out.")
    others = [e for key, e in call.record["models"].items() if key != call.key]
    if any((e["tokenizer"], e["vocab_size"]) != (entry["tokenizer"], entry["vocab_size"]) for e in others):
        note(
            "the models' tokens differ: the Phase Coherence Test goes by characters, and the Cross-Term Discrimination "
            "Test needs models of one tokenizer"
        )
    if not model.tokenizer.is_fast and entry["mode"] != "generation":
        note("this tokenizer does not tell characters: only models of the same one can be compared with it")


def description_head(folder: Path, args: argparse.Namespace) -> str:
    """submission.yaml without a model."""
    submitter = f"submitter: {json.dumps(args.submitter, ensure_ascii=False)}\n" if args.submitter else ""
    return f'schema: 1\nname: "{args.name or slug(folder.resolve().name)}"\n{submitter}models:\n'


def slug(text: str) -> str:
    """A legal name near a folder's."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-")
    return made if SLUG.fullmatch(made) and made not in RESERVED else f"my-{made or 'pair'}"


def with_model(text: str, key: str, entry: dict[str, Any]) -> str:
    """submission.yaml with a model's line put in; whatever else was written there stays."""
    values = {name: entry[name] for name in ("name", "revision", "tokenizer") if entry[name] is not None}
    parts = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    parts += [f"vocab_size: {entry['vocab_size']}", "value_kind: logit, temperature: 1.0", f"capture: {key}.csv.gz"]
    lines = [line for line in text.splitlines() if not line.startswith(f"  {key}:")]
    return "\n".join([*lines, f"  {key}: {{{', '.join(parts)}}}"]) + "\n"


def next_steps(call: Call) -> str:
    """What to do now."""
    models = call.record["models"]
    folder = _typed(str(call.folder))
    lines = [f"{key}: {e['name']}, {e['rows']:,} rows, {e['documents']:,} documents" for key, e in models.items()]
    if len(models) < 2:
        start = "uv run" if "UV" in os.environ else "python"
        lines += ["Next, the second model over the same texts:"]
        return "\n".join([*lines, f"  {start} {_typed(sys.argv[0])} --model SECOND/MODEL --out {folder}"])
    lines += [f"{folder} is complete. To send it, pack it:"]
    lines += [f"  python -m zipfile -c {_typed(call.folder.resolve().name + '.zip')} {folder}"]
    return "\n".join([*lines, "To test it yourself:", f"  brf-exp ingest submission={folder}"])


def _typed(path: str) -> str:
    """A path as one types it."""
    return f'"{path}"' if " " in path else path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one call; 0 done, 2 the user's to mend, 130 interrupted."""
    try:
        call = run(args := parse(arguments))
    except InputError as error:
        note(" ".join(str(error).split()))
        return 2
    except KeyboardInterrupt:
        note("interrupted. The same command goes on where this one stopped.")
        return 130
    except (RuntimeError, MemoryError) as error:
        if "out of memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        note(f"out of memory. Say --batch-tokens {max(2, args.batch_tokens // 4)} or --dtype bfloat16.")
        return 2
    print(next_steps(call))
    return 0


if __name__ == "__main__":
    sys.exit(main())
