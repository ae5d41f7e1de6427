import json

import pytest

from comsl.inference.inputs import FileError
from comsl.inference.subtitles import WRITERS, FileResult, SegmentResult, escape_vtt, timestamp, write_result

BOTH = FileResult(
    file="talks/a b.mp3",
    source="de",
    target="en",
    duration=3725.04,
    transcript="Guten Morgen. A & B <i>",
    translation="Good morning. A & B <i>",
    segments=[
        SegmentResult(0.0, 1.2345, "Guten Morgen.", "Good\tmorning.", -0.25),
        SegmentResult(1.5, 2.0, "", "", -3.0),
        SegmentResult(3661.9996, 3725.04, "A & B <i>", "A & B --> <i>", -1.0, truncated=True),
    ],
)
SILENT = FileResult(file="silent.wav", source="de", target="en", duration=1.0, translation="")
TRANSCRIPT = FileResult("c.wav", "es", "en", 2.0, transcript="hola", segments=[SegmentResult(0.1, 1.9, "hola")])


def write_results(results, format):
    writer = WRITERS[format]()
    return writer.begin() + "".join(write_result(writer, result) for result in results) + writer.end()


def test_text():
    assert write_results([BOTH, SILENT, TRANSCRIPT], "text") == (
        "Guten Morgen. A & B <i>\tGood morning. A & B <i>\n\nhola\n"
    )


def test_srt():
    assert write_results([SILENT], "srt") == ""
    assert write_results([BOTH], "srt") == (
        "1\n00:00:00,000 --> 00:00:01,234\nGood morning.\n\n2\n01:01:02,000 --> 01:02:05,040\nA & B --> <i>\n\n"
    )


def test_vtt():
    assert write_results([BOTH], "vtt") == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.234\nGood morning.\n\n"
        "01:01:02.000 --> 01:02:05.040\nA &amp; B --&gt; &lt;i&gt;\n\n"
    )


def test_tsv():
    assert write_results([BOTH, SILENT, TRANSCRIPT], "tsv") == (
        "file\tstart\tend\ttranscript\ttranslation\n"
        "talks/a b.mp3\t0.000\t1.234\tGuten Morgen.\tGood morning.\n"
        "talks/a b.mp3\t1.500\t2.000\t\t\n"
        "talks/a b.mp3\t3662.000\t3725.040\tA & B <i>\tA & B --> <i>\n"
        "c.wav\t0.100\t1.900\thola\t\n"
    )


def test_json():
    lines = write_results([SILENT, TRANSCRIPT], "json").splitlines()
    assert lines[0] == (
        '{"file": "silent.wav", "source": "de", "target": "en", "duration": 1.0, "transcript": null, '
        '"translation": "", "truncated": false, "confidence": null, "segments": []}'
    )
    assert json.loads(lines[1])["segments"] == [
        {
            "start": 0.1,
            "end": 1.9,
            "transcript": "hola",
            "translation": None,
            "score": None,
            "truncated": False,
            "agreement": None,
            "confidence": None,
        }
    ]
    both = json.loads(write_results([BOTH], "json"))
    assert both["truncated"] is True
    assert [(part["start"], part["end"], part["score"], part["truncated"]) for part in both["segments"]] == [
        (0.0, 1.234, -0.25, False),
        (1.5, 2.0, -3.0, False),
        (3662.0, 3725.04, -1.0, True),
    ]


def test_confidence_of_a_file_is_that_of_its_segments_by_length():
    segments = [SegmentResult(0, 1, translation="abc", agreement=0.91239, confidence=0.8)]
    segments.append(SegmentResult(1, 2, translation="abcdefghi", agreement=0.5, confidence=0.4))
    result = FileResult("a.wav", "de", "en", 2.0, translation="abc abcdefghi", segments=segments)
    found = json.loads(write_results([result], "json"))
    assert found["confidence"] == pytest.approx((3 * 0.8 + 9 * 0.4) / 12)
    assert [(part["agreement"], part["confidence"]) for part in found["segments"]] == [(0.9124, 0.8), (0.5, 0.4)]
    unknown = FileResult("a.wav", "de", "en", 2.0, segments=[*segments, SegmentResult(2, 3, agreement=0.5)])
    assert unknown.confidence is None
    assert SILENT.confidence is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00,000"), (59.9996, "00:01:00,000"), (3599.5, "00:59:59,500"), (360000.001, "100:00:00,001")],
)
def test_timestamps(seconds, text):
    assert timestamp(seconds, ",") == text


def test_escaping_keeps_a_text_from_ending_its_cue():
    assert escape_vtt("a-->b &lt; <c.red>") == "a--&gt;b &amp;lt; &lt;c.red&gt;"


def test_files_that_cannot_be_used_keep_their_place():
    failed = FileError("b.wav", "b.wav: no such file")
    results = [TRANSCRIPT, failed, TRANSCRIPT]
    assert write_results(results, "text") == "hola\n\nhola\n"
    assert write_results(results, "json").splitlines()[1] == '{"file": "b.wav", "error": "b.wav: no such file"}'
    assert write_results(results, "tsv").count("\n") == 3
    assert write_results([failed], "srt") == ""
    assert write_results([failed], "vtt") == "WEBVTT\n\n"
