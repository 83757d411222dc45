"""Every setting with its default, as plain dataclasses; no Hydra here.

Defaults live here and nowhere else; the YAML files in `conf/` state choices only. The comment behind a
field is its help text: `brf-exp <stage> --help` is printed from this module.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Split(StrEnum):
    """How documents are split for tuning. The command line reads the lower-case names."""

    cross_fit = "cross_fit"
    none = "none"
    CROSS_FIT = cross_fit
    NONE = none


class Dtype(StrEnum):
    """Number type of a forward pass. The command line reads the lower-case names."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"
    FLOAT32 = float32
    FLOAT64 = float64
    BFLOAT16 = bfloat16
    FLOAT16 = float16


class PhaseScope(StrEnum):
    """What has a phase of its own. The command line reads the lower-case names."""

    position = "position"
    token = "token"
    POSITION = position
    TOKEN = token


class CaptureMode(StrEnum):
    """Whose tokens a model is scored on. The command line reads the lower-case names."""

    teacher_forced = "teacher_forced"
    generation = "generation"
    TEACHER_FORCED = teacher_forced
    GENERATION = generation


@dataclass
class RecipeConfig:
    """How one embedded tiny model is trained from scratch."""

    architecture: str = "llama"  # llama | gpt_neox
    byte_level: bool = False  # 256 bytes and an end token instead of a fitted vocabulary
    hidden_size: int = 128  # width
    intermediate_size: int = 352  # width of the feed-forward layer
    n_layers: int = 5  # blocks
    n_heads: int = 4  # attention heads
    dropout: float = 0.0  # share of activations dropped in training
    context_tokens: int = 256  # longest context
    prose_share: float = 0.5  # share of training rows from prose; the rest is code
    tokens: int = 8_000_000  # tokens seen in training
    seed: int = 0  # of initial weights, order of documents, rows


@dataclass
class TrainConfig:
    """The optimiser's settings of stage `train`."""

    tokens: int | None = None  # tokens seen in training; default: the model's recipe
    batch_tokens: int = 2048  # tokens per step
    learning_rate: float = 6e-3  # peak, AdamW: embeddings, norms, biases
    matrix_learning_rate: float = 5e-2  # peak, Muon: the matrices inside the blocks
    warmup_share: float = 0.03  # share of steps that warm up
    weight_decay: float = 0.1  # on the matrices
    gradient_clip: float = 1.0  # largest gradient norm
    n_threads: int = 1  # CPU threads


@dataclass
class ModelConfig:
    """One language model."""

    name: str = "tiny_prose"  # embedded model, or hf with model.id
    id: str | None = None  # hub id or local folder, for model=hf
    revision: str | None = None  # commit, tag or branch of a hub id
    recipe: RecipeConfig = field(default_factory=RecipeConfig)


@dataclass
class PairConfig:
    """Two models to be fused or more, and another for the difficulty of tokens."""

    name: str = "tiny"  # shipped pair, ingested submission, or hf with pair.a and pair.b
    a: str | None = None  # embedded model, local folder or hub id
    b: str | None = None  # the same
    a_revision: str | None = None  # commit, tag or branch of a hub id
    b_revision: str | None = None  # the same
    others: list[str] = field(default_factory=list)  # more models, [C,D]: embedded, local folders or hub ids
    proxy: str | None = None  # another model with the same tokenizer, for the difficulty of tokens
    proxy_revision: str | None = None  # commit, tag or branch of a hub id
    lineage: str | None = None  # what the models share by descent, where known
    submission: str | None = None  # folder of an ingested submission (set by the command line)


@dataclass
class CorpusConfig:
    """The texts that models are scored on."""

    name: str = "stdlib"  # stdlib | file | hub, or a file's path
    path: str | None = None  # local .txt, .jsonl, .csv or .parquet file, for corpus=file
    id: str | None = None  # hub dataset id, for corpus=hub
    revision: str | None = None  # its commit, tag or branch
    subset: str | None = None  # its configuration
    split: str = "held_out"  # stdlib: train | validation | held_out | all; hub: the dataset's split
    domain: str = "all"  # stdlib: prose | code | all
    text_column: str = "text"  # column that holds the text
    id_column: str | None = None  # column that holds the document's id; default: row number
    max_documents: int | None = None  # at most this many documents
    max_tokens: int | None = None  # at most this many scored positions (whole documents, cut at the end)
    max_document_tokens: int | None = None  # documents are cut after this many tokens


@dataclass
class CaptureConfig:
    """How a model is run over a corpus."""

    mode: CaptureMode = CaptureMode.TEACHER_FORCED  # teacher_forced: on the texts | generation: on what it adds to them
    k: int = 50  # logits kept per position
    dtype: Dtype = Dtype.FLOAT32  # number type of the forward pass
    batch_tokens: int = 2048  # tokens per forward pass, more where one stretch of text is longer; bounds the memory
    context_tokens: int = 8192  # longest stretch of a document read at once, at most the model's own context
    min_context_tokens: int = 64  # context every position has at least (where the document has it)
    rows_per_part: int = 65536  # rows of one part file, about; a document is never split
    temperatures: list[float] = field(default_factory=list)  # further ones whose logsumexp is kept, e.g. [0.7,1.5]
    device: str = "cpu"  # cpu | cuda | cuda:<number> | mps
    device_map: str | None = None  # auto: a model larger than one GPU over all of them (needs accelerate)
    compile: bool = False  # compile the forward pass: minutes at first, then faster on a GPU
    shard: str | None = None  # 3/16: the third of 16 shares of the parts, one job each; only for stage capture


@dataclass
class GenerationConfig:
    """How texts are continued with capture.mode=generation. Logits are kept as they are before any of this."""

    prompt_tokens: int = 64  # tokens of each document to go on from; shorter documents as they are
    new_tokens: int = 64  # tokens added to each, fewer where the model ends the text
    temperature: float = 1.0  # of sampling; 0: always the top token
    top_k: int | None = None  # sample from this many best tokens; default: from all
    top_p: float = 1.0  # sample from the best tokens that have this share of the probability
    tokens_of: str | None = None  # a capture folder: score the tokens that were generated there, generate none


@dataclass
class PairGenerationConfig(GenerationConfig):
    """The same for a pair, whose models are all scored on the tokens that one of them generated."""

    by: str = "a"  # which of the pair generates: a | b


@dataclass
class PhaseConfig:
    """The map from logit gap to phase."""

    name: str = "arctan"  # arctan | linear | tanh | exponential | quantile | table
    scale: float | None = None  # in logits; default: the pooled median gap
    table: str | None = None  # CSV of gap,phase for phase=table
    scope: PhaseScope = PhaseScope.POSITION  # position: a phase per position | token: one per token, from its own gap


@dataclass
class EvaluationConfig:
    """How the two tests decide."""

    split: Split = Split.CROSS_FIT  # cross_fit | none
    tune: bool = True  # fit the parameters of every rule on the other folds
    n_folds: int = 5  # folds over documents
    delta_nats: float = 0.005  # smallest gain in log loss that matters
    confidence_level: float = 0.95  # of every interval
    n_resamples: int = 9999  # bootstrap and sign-flip replicates
    n_repairings: int = 999  # derangements of documents
    n_negative_controls: int = 200  # derangements on which the whole decision is repeated
    min_documents: int = 20  # fewer: inconclusive (documents)
    controls: bool = True  # run the planted worlds; false: every verdict is inconclusive (controls)


@dataclass
class RecaptureConfig:
    """The pair captured a second time with other number noise: no smaller effect counts."""

    enabled: bool = True  # capture again where the models can be run
    captures: list[str] = field(default_factory=list)  # instead: folders of the same models and first texts, [A,B]
    dtype: Dtype = Dtype.BFLOAT16  # number type of the second capture; float32 where the first has this one
    max_tokens: int = 10_000  # positions captured again, from the first document on


@dataclass
class ClaimsConfig:
    """The ledger of public claims."""

    delta: float = 0.05  # smallest share of the possible excess coherence that matters
    ledger: str | None = None  # folder of claim files; default: the shipped ledger


@dataclass
class StageConfig:
    """Settings that every stage has."""

    runs_dir: str = "runs"  # where results go
    seed: int = 0  # of everything random
    progress: bool = True  # progress bars on a terminal


@dataclass
class CaptureStageConfig(StageConfig):
    """Run one model over one corpus and keep its top-k logits."""

    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    condition: str = "none"  # what the model sees besides the text: none


@dataclass
class IngestStageConfig(StageConfig):
    """Check a collaborator's submission and import it."""

    submission: str | None = None  # folder, .zip or .tar.gz with a submission.yaml
    replace: bool = False  # replace an earlier submission of the same name
    report: str | None = None  # file for the report on every problem as JSON; a readable one (.txt) beside it
    k: int = 50  # values kept per row of a dump of whole rows of logits (.npz, .safetensors); 0: all
    memory_mb: int = 1024  # bounds what is read at once; changes no result


@dataclass
class AnalysisStageConfig(StageConfig):
    """What both tests need."""

    pair: PairConfig = field(default_factory=PairConfig)
    captures: list[str] = field(default_factory=list)  # two or more capture folders, [A,B], instead of a pair
    proxy: str | None = None  # tells how hard tokens are: a model, capture folder or submission member; or none
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    generation: PairGenerationConfig = field(default_factory=PairGenerationConfig)
    condition: str = "none"  # what the models see besides the text: none
    phase: PhaseConfig = field(default_factory=PhaseConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    claims: ClaimsConfig = field(default_factory=ClaimsConfig)
    memory_mb: int = 1024  # working arrays beyond this go to files that vanish; changes no result


@dataclass
class CoherenceStageConfig(AnalysisStageConfig):
    """Phase Coherence Test: are the phases of two models related, beyond shared difficulty?"""

    planning: bool = False  # print how many documents and tokens are needed, and give no verdict


@dataclass
class ScoringConfig(AnalysisStageConfig):
    """What scoring rules needs besides."""

    recapture: RecaptureConfig = field(default_factory=RecaptureConfig)


@dataclass
class DiscriminateStageConfig(ScoringConfig):
    """Cross-Term Discrimination Test: does the interference term predict what no phase-free rule does?"""


@dataclass
class RunStageConfig(ScoringConfig):
    """Capture, both tests, audit, claims and report for one pair."""


@dataclass
class AuditStageConfig(StageConfig):
    """Structural properties of every fusion rule, computed on random distributions."""

    n_distributions: int = 2000  # random pairs of distributions
    vocabulary_size: int = 12  # outcomes of each


@dataclass
class ClaimsStageConfig(StageConfig):
    """One verdict per public claim, from what a run has measured."""

    run: str | None = None  # a run folder, as printed by `brf-exp run`; default: the newest
    claims: ClaimsConfig = field(default_factory=ClaimsConfig)


@dataclass
class ReportStageConfig(StageConfig):
    """Figures, tables and one self-contained page from a run."""

    run: str | None = None  # a run folder, as printed by `brf-exp run`; default: the newest


@dataclass
class CollectStageConfig(StageConfig):
    """One table and one page over many runs, with multiplicity handled across pairs."""

    runs: str | None = None  # run folders: a quoted pattern, a folder of them or a sweep's; default: all under runs_dir
    name: str = "runs"  # what the collection is called
    alpha: float = 0.05  # level of the corrected p-values
    map: str = "arctan"  # phase map whose run counts for a pair; runs with others are robustness


@dataclass
class TrainStageConfig(StageConfig):
    """Train an embedded tiny model from scratch and measure it on held-out text."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    out: str | None = None  # folder of the trained model; default: a folder under runs_dir


@dataclass
class ExtractScriptStageConfig(StageConfig):
    """Write the script that dumps a model's logits on a machine without this project."""

    out: str = "extract_topk.py"  # the file to write
    replace: bool = False  # replace a file of other content


@dataclass
class SubmitTemplateStageConfig(StageConfig):
    """Write an example submission: real rows of two tiny models, with comments."""

    out: str = "example-pair"  # the folder to write
    replace: bool = False  # replace files of other content


STAGES: dict[str, type[StageConfig]] = {
    "run": RunStageConfig,
    "capture": CaptureStageConfig,
    "ingest": IngestStageConfig,
    "coherence": CoherenceStageConfig,
    "discriminate": DiscriminateStageConfig,
    "audit": AuditStageConfig,
    "claims": ClaimsStageConfig,
    "report": ReportStageConfig,
    "collect": CollectStageConfig,
    "train": TrainStageConfig,
    "extract-script": ExtractScriptStageConfig,
    "submit-template": SubmitTemplateStageConfig,
}
