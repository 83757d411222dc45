"""Write one and the same dump in every form in which a submission may come, as the serving stacks write it.

    python docs/examples/submissions/make_examples.py

makes the example folders beside this file from two embedded models; tests use the writers on larger dumps.
"""

import gzip
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from scipy.special import logsumexp

from brf_exp.config import CaptureConfig, CorpusConfig
from brf_exp.models.reference import folder_of, resolve_spec
from brf_exp.stages.capture import capture
from brf_exp.storage.captures import open_capture

HERE = Path(__file__).resolve().parent
MODELS = {"a": "tiny_prose", "b": "tiny_code"}


@dataclass(frozen=True)
class Document:
    """Tokens of one text and the whole row of logits that each was predicted from."""

    doc_id: str
    tokens: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Dump:
    """What one model was made to dump: `vocabulary` holds the bytes of every token."""

    documents: tuple[Document, ...]
    vocabulary: tuple[bytes, ...]
    k: int

    def rows(self) -> Iterator[tuple[Document, int, np.ndarray, float]]:
        """Document, position, ids by falling logit (ties: lower id), and logsumexp."""
        for document in self.documents:
            rows = document.logits.astype(np.float64)
            for position, (row, total) in enumerate(zip(rows, logsumexp(rows, axis=1), strict=True)):
                yield document, position, np.argsort(-row, kind="stable"), float(total)

    def listed(self, document: Document) -> list[tuple[int, float, list[tuple[int, int, float]]]]:
        """Per position: realised id, its log-probability, and (id, rank, log-probability) of the top k."""
        found = []
        for row, token in zip(document.logits.astype(np.float64), document.tokens.tolist(), strict=True):
            scores = row - logsumexp(row)
            ids = np.argsort(-row, kind="stable")[: self.k]
            found.append((token, float(scores[token]), [(int(i), r, float(scores[i])) for r, i in enumerate(ids, 1)]))
        return found

    def text(self, token: int) -> str:
        """A token as serving stacks print it."""
        return self.vocabulary[token].decode("utf-8", "replace")


def dump_of(model: str, corpus: CorpusConfig, *, k: int, folder: Path) -> Dump:
    """Capture an embedded model's whole rows of logits."""
    vocabulary = token_bytes(model)
    found = open_capture(capture(resolve_spec(model), corpus, CaptureConfig(k=len(vocabulary)), runs_dir=folder))
    ids, values = found.top_k()
    logits = np.empty_like(values)
    np.put_along_axis(logits, ids.astype(np.int64), values, axis=1)
    tokens = found.read(["token_id"])["token_id"]
    offsets = found.documents.offsets
    documents = tuple(
        Document(name, tokens[first:last], logits[first:last])
        for name, first, last in zip(found.documents.doc_ids, offsets[:-1], offsets[1:], strict=True)
    )
    return Dump(documents, vocabulary, k)


def token_bytes(model: str) -> tuple[bytes, ...]:
    """The bytes of every token of an embedded model's byte-level vocabulary."""
    tokenizer = json.loads((folder_of(resolve_spec(model)) / "tokenizer.json").read_text(encoding="utf-8"))
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    of_character = {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}
    special = {entry["content"] for entry in tokenizer["added_tokens"]}
    by_id = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    return tuple(
        text.encode() if text in special else bytes(of_character[character] for character in text) for text, _ in by_id
    )


# Tables


def wide(dump: Dump) -> pd.DataFrame:
    """One row per position, values in columns."""
    rows = []
    for document, position, order, total in dump.rows():
        token, logits = int(document.tokens[position]), document.logits[position]
        row = {"doc_id": document.doc_id, "position": position, "token_id": token, "logsumexp": total}
        row["target_logit"] = logits[token]
        row |= {f"id_{rank}": int(i) for rank, i in enumerate(order[: dump.k], 1)}
        rows.append(row | {f"logit_{rank}": logits[i] for rank, i in enumerate(order[: dump.k], 1)})
    return pd.DataFrame(rows)


def listed(dump: Dump) -> pd.DataFrame:
    """One row per position, values in lists."""
    table = wide(dump)
    for name, stem in (("ids", "id"), ("logits", "logit")):
        columns = [f"{stem}_{rank}" for rank in range(1, dump.k + 1)]
        table[name] = table[columns].to_numpy().tolist()
        table = table.drop(columns=columns)
    return table


def write_csv(dump: Dump, stem: Path) -> None:
    """Commas and points."""
    wide(dump).to_csv(stem.with_suffix(".csv"), index=False)


def write_csv_semicolon(dump: Dump, stem: Path) -> None:
    """Semicolons and decimal commas, gzipped, as spreadsheets of many countries export."""
    with gzip.open(stem.with_suffix(".csv.gz"), "wt", encoding="utf-8") as file:
        wide(dump).to_csv(file, index=False, sep=";", decimal=",")


def write_tsv(dump: Dump, stem: Path) -> None:
    """Tabs, packed with zstd."""
    with pa.output_stream(stem.with_suffix(".tsv.zst"), compression="zstd") as file:
        file.write(wide(dump).to_csv(None, index=False, sep="\t").encode())


def write_csv_logprobs(dump: Dump, stem: Path) -> None:
    """Log-probabilities in place of logits."""
    table = wide(dump)
    total = table.pop("logsumexp")
    names = [name for name in table if "logit" in name]
    table[names] = table[names].astype(float).sub(total, axis=0)
    table = table.rename(columns={name: name.replace("logit", "logprob") for name in names})
    table.to_csv(stem.with_suffix(".csv"), index=False)


def write_parquet(dump: Dump, stem: Path) -> None:
    """Flat columns."""
    wide(dump).to_parquet(stem.with_suffix(".parquet"), index=False)


def write_parquet_lists(dump: Dump, stem: Path) -> None:
    """Ids and logits of a row in lists."""
    table = pa.Table.from_pandas(listed(dump), preserve_index=False)
    for name, kind in (("ids", pa.int32()), ("logits", pa.float32())):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table[name].cast(pa.list_(kind)))
    pq.write_table(table, stem.with_suffix(".parquet"))


def write_rows(dump: Dump, stem: Path) -> None:
    """JSONL, one position per line."""
    lines = [json.dumps(row) for row in listed(dump).to_dict("records")]
    stem.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


# Responses of serving stacks, one per line


def write_lines(dump: Dump, stem: Path, response: Callable[[Dump, Document], dict[str, Any]]) -> None:
    """One response per document."""
    lines = [json.dumps({"custom_id": d.doc_id} | response(dump, d)) for d in dump.documents]
    stem.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def openai_chat(dump: Dump, document: Document) -> dict[str, Any]:
    """A chat completion with logprobs and top_logprobs, as a batch interface returns it."""

    def item(token: int, logprob: float) -> dict[str, Any]:
        return {"token": dump.text(token), "logprob": logprob, "bytes": list(dump.vocabulary[token])}

    content = [
        item(token, logprob) | {"top_logprobs": [item(i, value) for i, _, value in top]}
        for token, logprob, top in dump.listed(document)
    ]
    choice = {"index": 0, "logprobs": {"content": content}, "finish_reason": "length"}
    return {"response": {"body": {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]}}}


def openai_completion(dump: Dump, document: Document) -> dict[str, Any]:
    """A completion of the older interface; tokens as `token_id:123` as vLLM prints them on request."""
    tokens, scores, tops = [], [], []
    for token, logprob, top in dump.listed(document):
        entries = {f"token_id:{token}": logprob} | {f"token_id:{i}": value for i, _, value in top}
        tokens.append(f"token_id:{token}")
        scores.append(logprob)
        tops.append(entries)
    logprobs = {"tokens": tokens, "token_logprobs": scores, "top_logprobs": tops}
    return {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "logprobs": logprobs}]}


def vllm_entries(dump: Dump, document: Document) -> list[dict[str, Any]]:
    """One mapping per position: the realised token first, then the top list."""
    rows = []
    for (_, position, order, _), (token, logprob, top) in zip(
        Dump((document,), dump.vocabulary, dump.k).rows(), dump.listed(document), strict=True
    ):
        rank = int(np.flatnonzero(order == token)[0]) + 1
        entries = [(token, rank, logprob), *top]
        rows.append({str(i): {"logprob": v, "rank": r, "decoded_token": dump.text(i)} for i, r, v in entries})
        assert position == len(rows) - 1
    return rows


def vllm_prompt(dump: Dump, document: Document) -> dict[str, Any]:
    """A completion request with prompt_logprobs: nothing predicts the first token, which here opens the text."""
    choice = {"index": 0, "text": "", "logprobs": None, "prompt_logprobs": [None, *vllm_entries(dump, document)]}
    return {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}


def vllm_output(dump: Dump, document: Document) -> dict[str, Any]:
    """A RequestOutput of vLLM's Python interface, dumped with its generated tokens."""
    output = {"index": 0, "token_ids": document.tokens.tolist(), "logprobs": vllm_entries(dump, document)}
    return {"request_id": "0", "prompt_token_ids": [0], "prompt_logprobs": None, "outputs": [output]}


def llama_cpp(dump: Dump, document: Document) -> dict[str, Any]:
    """llama.cpp's server, POST /completion with n_probs."""

    def item(token: int, logprob: float) -> dict[str, Any]:
        octets = list(dump.vocabulary[token])
        return {"id": token, "token": dump.text(token), "bytes": octets, "logprob": logprob}

    items = [
        item(t, score) | {"top_logprobs": [item(i, v) for i, _, v in top]} for t, score, top in dump.listed(document)
    ]
    return {"index": 0, "content": "", "completion_probabilities": items}


def llama_cpp_older(dump: Dump, document: Document) -> dict[str, Any]:
    """llama.cpp's server until December 2024, with the neutral temperature -1."""

    def text(token: int) -> str:
        octets = dump.vocabulary[token]
        return octets.decode() if octets.isascii() else f"byte: {octets.hex()}"

    items = [
        {"content": text(token), "probs": [{"tok_str": text(i), "prob": math.exp(v)} for i, _, v in top]}
        for token, _, top in dump.listed(document)
    ]
    settings = {"temperature": -1.0, "n_probs": dump.k}
    return {"content": "", "generation_settings": settings, "completion_probabilities": items}


# Whole rows


def arrays(dump: Dump) -> dict[str, np.ndarray]:
    """`logits` (sequences, steps, outcomes), `sequences` with a prompt of one token, `lengths`."""
    longest = max(len(document.tokens) for document in dump.documents)
    shape = (len(dump.documents), longest)
    found = {
        "logits": np.zeros((*shape, len(dump.vocabulary)), np.float32),
        "sequences": np.zeros((shape[0], longest + 1), np.int64),
        "lengths": np.array([len(document.tokens) for document in dump.documents]),
    }
    for index, document in enumerate(dump.documents):
        found["logits"][index, : len(document.tokens)] = document.logits
        found["sequences"][index, 1 : len(document.tokens) + 1] = document.tokens
    return found


def write_npz(dump: Dump, stem: Path) -> None:
    """generate(output_logits=True), stacked and saved by numpy."""
    np.savez(stem.with_suffix(".npz"), **arrays(dump))  # type: ignore[arg-type]


def write_npz_steps(dump: Dump, stem: Path) -> None:
    """generate(output_logits=True), one array per step."""
    found = arrays(dump)
    logits = found.pop("logits")
    steps = {f"logits_{step}": logits[:, step] for step in range(logits.shape[1])}
    np.savez_compressed(stem.with_suffix(".npz"), **found, **steps)  # type: ignore[arg-type]


def write_safetensors(dump: Dump, stem: Path) -> None:
    """The same as safetensors."""
    from safetensors.numpy import save_file

    save_file(arrays(dump), stem.with_suffix(".safetensors"))


def responses(response: Callable[[Dump, Document], dict[str, Any]]) -> Callable[[Dump, Path], None]:
    """A writer of responses."""
    return lambda dump, stem: write_lines(dump, stem, response)


WRITERS: dict[str, tuple[str, Callable[[Dump, Path], None]]] = {
    "csv": (".csv", write_csv),
    "csv-logprobs": (".csv", write_csv_logprobs),
    "csv-semicolon": (".csv.gz", write_csv_semicolon),
    "tsv-zst": (".tsv.zst", write_tsv),
    "parquet": (".parquet", write_parquet),
    "parquet-lists": (".parquet", write_parquet_lists),
    "jsonl-rows": (".jsonl", write_rows),
    "openai-chat": (".jsonl", responses(openai_chat)),
    "openai-completion": (".jsonl", responses(openai_completion)),
    "vllm-prompt": (".jsonl", responses(vllm_prompt)),
    "vllm-output": (".jsonl", responses(vllm_output)),
    "llama-cpp": (".jsonl", responses(llama_cpp)),
    "llama-cpp-older": (".jsonl", responses(llama_cpp_older)),
    "npz": (".npz", write_npz),
    "npz-steps": (".npz", write_npz_steps),
    "safetensors": (".safetensors", write_safetensors),
}


def write_submission(folder: Path, form: str, dumps: dict[str, Dump]) -> Path:
    """A whole submission in one form."""
    suffix, write = WRITERS[form]
    folder.mkdir(parents=True, exist_ok=True)
    models = {}
    for key, dump in dumps.items():
        write(dump, folder / key)
        entry = {"name": MODELS.get(key, key), "tokenizer": "tiny", "vocab_size": len(dump.vocabulary)}
        models[key] = entry | {"temperature": 1.0, "capture": f"{key}{suffix}"}
    description = {"schema": 1, "name": f"example-{form}", "submitter": "anyone", "models": models}
    (folder / "submission.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    return folder


def main() -> None:
    """Write all examples."""
    corpus = CorpusConfig(max_documents=2, max_document_tokens=6)
    with tempfile.TemporaryDirectory() as runs:
        dumps = {key: dump_of(model, corpus, k=5, folder=Path(runs)) for key, model in MODELS.items()}
    for form in WRITERS:
        write_submission(HERE / form, form, dumps)


if __name__ == "__main__":
    main()
