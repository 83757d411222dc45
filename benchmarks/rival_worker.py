"""One other tool in its own environment, driven over stdin: `python rival_worker.py TOOL MODEL TEXTS`.

Every line read is a batch size; the answer is a line of JSON with the seconds of scoring all texts, the positions
scored and the sum of their log probabilities in nats. Loading comes before the first line. Knows nothing of brf_exp.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

Scored = tuple[int, float]


def lm_eval(model: str, texts: list[str]) -> Callable[[int], Scored]:
    """The rolling log-likelihood of lm-evaluation-harness: one number per text."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    loaded = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=1)
    n_positions = sum(len(loaded.tok_encode(text)) for text in texts)

    def score(batch: int) -> Scored:
        loaded.batch_size_per_gpu = batch
        requests = [Instance("loglikelihood_rolling", {}, (text,), index) for index, text in enumerate(texts)]
        return n_positions, sum(loaded.loglikelihood_rolling(requests, disable_tqdm=True))

    return score


def minicons(model: str, texts: list[str]) -> Callable[[int], Scored]:
    """Log probabilities of all tokens by minicons, the first one's given the beginning token."""
    from minicons.scorer import IncrementalLMScorer

    loaded = IncrementalLMScorer(model, "cpu")

    def score(batch: int) -> Scored:
        found = []
        for first in range(0, len(texts), batch):
            prepared = loaded.prepare_text(texts[first : first + batch], bos_token=True)
            found += loaded.compute_stats(prepared)
        return sum(map(len, found)), sum(map(sum, found))

    return score


def main() -> None:
    """Answer batch sizes with times; whatever the tool itself prints goes to stderr."""
    tool, model, texts_file = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lines = Path(texts_file).read_text(encoding="utf-8").splitlines()
    # Longest first: least padding in a batch.
    texts = sorted((json.loads(line)["text"] for line in lines), key=len, reverse=True)
    score = {"lm_eval": lm_eval, "minicons": minicons}[tool](model, texts)
    score(8)  # warms up
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        positions, nats = score(int(line))
        took = time.perf_counter() - started
        print(json.dumps({"seconds": took, "positions": positions, "nats": nats}), file=answers, flush=True)


if __name__ == "__main__":
    main()
