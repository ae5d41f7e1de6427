"""What has to be said beside numbers: where they come from and how they were computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from comsl.evaluation import LOOKUP

MOST_NAMED = 6
USUAL = {"mbr": 0, "transcript": "decoder", "ctc_weight": 0.0, "mixed_memory": "speech"}
"""Settings of decoding that are only named where they are others."""
SHOWN = 5


def some(names: Iterable[str], shown: int = SHOWN) -> str:
    """The first few of many names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def coverage(group: str, average: dict[str, Any]) -> str:
    """What a mean is over: "high (4)"; "high, over 3 of 4 (without ca)" where the group has more than was measured."""
    count, of, missing = average["languages"], average["of"], average["missing"]
    if not missing:
        return f"{group} ({count})"
    without = f" (without {', '.join(missing)})" if len(missing) <= MOST_NAMED else ""
    return f"{group}, over {count} of {of}{without}"


def footnotes(scores: dict[str, Any]) -> list[str]:
    """Signatures, normalisers and settings: what has to be said beside the numbers."""
    pairs = [pair for result in scores["systems"].values() for pair in result["pairs"].values()]
    notes = [f"BLEU {signature}" for signature in dict.fromkeys(pair["bleu"]["signature"] for pair in pairs)]
    notes += [f"chrF++ {signature}" for signature in dict.fromkeys(pair["chrf"]["signature"] for pair in pairs)]
    rates = [pair for result in scores["transcription"].values() for pair in result["pairs"].values()]
    notes += [f"WER, CER: normaliser {name}" for name in dict.fromkeys(pair["normaliser"] for pair in rates)]
    unheard = scores.get("rows_without_transcript", 0)
    if rates and unheard:
        notes.append(f"WER, CER: {unheard} of {scores['rows']} rows have no transcript and are not in them")
    if any(pair["truncated"] for pair in pairs + rates):
        notes.append("truncated: the text reached its token limit before its end, and is scored as far as it goes")
    if any(pair["bleu"]["ci"] is not None for pair in pairs):
        notes.append("±: 95% interval over rows (bootstrap)")
    if LOOKUP in scores["systems"]:
        every = dict.fromkeys(pair for result in scores["systems"].values() for pair in result["pairs"])
        missing = [pair for pair in every if pair not in scores["systems"][LOOKUP]["pairs"]]
        if missing:
            notes.append(f"{LOOKUP}: no floor for {', '.join(missing)}, of which the training rows have none")
    notes += _segmentation_notes(scores["segmentation"])
    if scores.get("confidence"):
        notes.append(
            "confidence: the chrF that a translation is expected to have, 0 to 1; parts of equal size, from the least "
            "confident on; error: mean distance of confidence and chrF over the parts"
        )
    if scores.get("memory"):
        memory = scores["memory"]
        notes.append(
            f"memory: {', '.join(memory['manifests'])}, gap {memory['settings']['gap']:g}; "
            f"{memory['rows_in_it']} of the rows are in it, word for word"
        )
    notes.append(f"{_decoding(scores)}; {scores['rows']} rows")
    return notes


def _decoding(scores: dict[str, Any]) -> str:
    if scores["decoding"] is None:
        files = some(dict.fromkeys(scores["hypotheses"] + scores["transcripts"]))
        return f"decoding: done elsewhere, read from {files}"
    settings = {name: scores["decoding"][name] for name in ("beam", "length_penalty", "max_new_tokens", "device")}
    # What translations are chosen by, and what they are made from, where it is not as usual.
    settings |= {name: value for name in USUAL if (value := scores["decoding"].get(name)) != USUAL[name]}
    named = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value is not None)
    return f"decoding: {named}"


def _segmentation_notes(segmentation: dict[str, dict[str, float]]) -> list[str]:
    """What became of long clips; systems that did the same with them share a note."""
    notes: dict[str, list[str]] = {}
    for system, found in segmentation.items():
        note = f"clips of up to {found['longest_whole_seconds']:g} s are decoded whole"
        if found["clips_cut"]:
            note += f", {found['clips_cut']} longer ones were cut into segments of speech"
        if found["clips_without_speech"]:
            note += f"; no speech was found in {found['clips_without_speech']} of these (empty hypothesis)"
        notes.setdefault(note, []).append(system)
    return [f"{', '.join(systems)}: {note}" for note, systems in notes.items()]


def summary(scores: dict[str, Any]) -> str:
    """What was evaluated, when, and with which versions."""
    versions = ", ".join(f"{name} {version}" for name, version in scores["versions"].items())
    commit = scores.get("git_commit") or ""
    if commit:
        changed = " and changes to it" if commit.endswith("+") else ""
        commit = f", commit {commit[:12]}{changed}"
    data = f"{scores['rows']} rows, {_length(scores)}, from {some(scores['manifests'])}"
    return f"{data}. {scores['created']}; {versions}{commit}."


def _length(scores: dict[str, Any]) -> str:
    """Hours of speech, as far as they are known."""
    unknown = scores["rows_without_duration"]
    if unknown == scores["rows"]:
        return "of unknown length"
    hours = f"{scores['audio_seconds'] / 3600:.2f} hours of speech"
    return f"{hours} (rows of unknown length: {unknown})" if unknown else hours
