"""The settings of decoding, and what comes out of it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from comsl.errors import UsageError
from comsl.inference import MIXED_MEMORIES, TRANSCRIPT_SOURCES, MixedMemory, TranscriptSource


@dataclass(frozen=True)
class DecodingOptions:
    """How to search. The defaults are the paper's (beam 5) with nothing suppressed.

    A row may grow to ``max_new_tokens`` tokens; when that is None, to ``tokens_per_second`` x its seconds (speech) or
    ``tokens_per_token`` x its source tokens (text) plus ``extra_tokens``: far more than any language needs, a bound for
    a decoder that runs in circles. In every case at most what the text model has positions for. The bound is each
    row's own: a stopping criterion ends every row at its own limit, so a long neighbour does not let it run on.
    """

    beam: int = 5
    """Beams; 1 is greedy search."""
    max_new_tokens: int | None = None
    """The same bound for every row, in tokens after the prompt; None derives it from the row's length."""
    tokens_per_second: float = 16.0
    tokens_per_token: float = 3.0
    extra_tokens: int = 16
    length_penalty: float = 1.0
    """Exponent of the length by which a beam's log-probability is divided: above 1 favours long output."""
    no_repeat_ngram: int = 0
    """Never repeat an n-gram of this many tokens; 0 switches it off."""
    repetition_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    """Of the sampling; greedy and beam search have no randomness."""
    batch_size: int = 8
    """Rows decoded together, at most."""
    batch_seconds: float | None = None
    """Padded seconds of speech decoded together, at most (a longer row goes alone); None: no such bound."""
    scores: bool = True
    """Score the hypotheses, which when sampling or penalising repetition costs one more pass of the decoder;
    switched off, ``Hypothesis.score`` is NaN."""
    mbr: int = 0
    """Minimum Bayes risk: of so many best hypotheses of the search, or so many samples, the translation that is likely
    to be least wrong (``comsl.inference.mbr``); 0: the likeliest. Of the mode "pooled": so many of each of the three
    modes, at least one."""
    transcript: TranscriptSource = "decoder"
    """What transcribes. The CTC head reads its likeliest path off the speech encoder: lower case, and no search."""
    ctc_weight: float = 0.0
    """Above 0, the decoder's transcript is the one of its ``beam`` best that is best by (1 - weight) x the decoder's
    log-probability + weight x the CTC head's."""
    mixed_memory: MixedMemory = "speech"
    """What the decoder reads of an encoded [transcript ; speech] in the mode "mixed". The objective STM trains it to
    translate from the speech part; MTP reads the text part, and nothing reads both."""

    def __post_init__(self) -> None:
        for name in ("beam", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if self.mbr < 0 or (self.mbr > self.beam and not self.do_sample):
            raise UsageError(f"mbr: {self.mbr} candidates are not between 0 and what a beam of {self.beam} finds")
        if not 0 <= self.ctc_weight <= 1:
            raise UsageError(f"ctc_weight must be between 0 and 1, not {self.ctc_weight}")
        if self.mbr and not self.scores:
            raise UsageError("mbr weights hypotheses by their scores: leave scores on")
        if self.ctc_weight and (self.transcript == "ctc" or not self.scores):
            raise UsageError("ctc_weight is for transcripts of the decoder that are scored: leave it at 0")
        for name, known in (("transcript", TRANSCRIPT_SOURCES), ("mixed_memory", MIXED_MEMORIES)):
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}: use one of {', '.join(known)}")

    def outcome(self) -> dict[str, Any]:
        """The settings that hypotheses depend on; how many are decoded at once is not among them."""
        return {name: value for name, value in asdict(self).items() if name not in ("batch_size", "batch_seconds")}


@dataclass(frozen=True)
class Hypothesis:
    """One decoded row."""

    text: str
    score: float
    """Mean natural log-probability of a generated token, the end included, whatever the search; NaN if unwanted."""
    tokens: list[int] = field(default_factory=list)
    """The generated ids: neither the prompt, nor the end, nor padding."""
    truncated: bool = False
    """The row reached its limit of new tokens before its end: the text is cut off, or goes round in circles."""

    @property
    def log_probability(self) -> float:
        """Sum over the generated tokens; the end is one of them."""
        return self.score * (len(self.tokens) + (not self.truncated))
