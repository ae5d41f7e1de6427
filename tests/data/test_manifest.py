import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from comsl.data import jsonl
from comsl.data import manifest as module
from comsl.data.manifest import COLUMNS, ManifestError, load_manifest, write_manifest
from comsl.languages import LANGUAGES

ROW: dict[str, Any] = {"id": "a", "audio": "a.wav", "source_language": "de", "transcript": "ja"}


def row(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ROW, **fields}.items() if value is not ...}


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def error_of(path: Any) -> str:
    with pytest.raises(ManifestError) as error:
        load_manifest(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_row_has_every_column_and_an_absolute_path(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", row(), "", row(id="b", audio="/x/b.wav", duration=2, translation=" \n"))
    manifest = load_manifest(path)
    assert isinstance(manifest, datasets.Dataset)
    assert manifest.column_names == list(COLUMNS)
    nothing = dict.fromkeys(COLUMNS)
    expected = {**nothing, "id": "a", "audio": f"{tmp_path}/a.wav", "source_language": "de", "transcript": "ja"}
    assert manifest[0] == expected
    assert manifest[1] == {**expected, "id": "b", "audio": "/x/b.wav", "duration": 2.0}


def test_relative_means_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    write_lines(tmp_path / "deep" / "m.jsonl", row(audio="../clips/ü 1.wav"))
    monkeypatch.chdir(tmp_path)
    assert Path(load_manifest("deep/m.jsonl")[0]["audio"]).resolve() == tmp_path / "clips" / "ü 1.wav"


def test_round_trips(tmp_path: Path) -> None:
    rows = [
        row(
            id=f"{number}", audio=f"/clips/{number}.wav", duration=number + 0.5, transcript=f"ö „{number}“", speaker="s"
        )
        for number in range(3000)
    ]
    full = [{**dict.fromkeys(COLUMNS), **one} for one in rows]
    for name in ("m.jsonl", "m.parquet"):
        assert write_manifest(iter(rows), tmp_path / "new" / name) == 3000
        assert load_manifest(tmp_path / "new" / name).to_list() == full
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["m.jsonl", "m.parquet"]


def test_bytes_in_parquet(tmp_path: Path) -> None:
    write_manifest([row(audio=b"RIFF\x00\xff")], tmp_path / "m.parquet")
    assert load_manifest(tmp_path / "m.parquet")[0]["audio"] == b"RIFF\x00\xff"
    with pytest.raises(ManifestError, match="JSONL cannot hold audio bytes"):
        write_manifest([row(audio=b"x")], tmp_path / "m.jsonl")
    assert not list(tmp_path.glob("*.jsonl*"))


def test_audio_of_datasets(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "audio": [{"bytes": b"abc", "path": "a.wav"}], "source_language": ["de"]})
    pq.write_table(table, tmp_path / "m.parquet")
    assert load_manifest(tmp_path / "m.parquet")[0]["audio"] == b"abc"


def test_paths_of_datasets(tmp_path: Path) -> None:
    """Without bytes the path is what there is; with them, a row that has only a path would lose it."""

    def write(*audio: Any) -> Path:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {"id": [f"{n}" for n in range(len(audio))], "source_language": ["de"] * len(audio)}
        table = pa.table({**columns, "transcript": ["x"] * len(audio), "audio": pa.array(audio, kind)})
        pq.write_table(table, tmp_path / "m.parquet")
        return tmp_path / "m.parquet"

    path = write({"bytes": None, "path": "a.wav"}, None, {"bytes": None, "path": "/x/b.wav"})
    assert load_manifest(path)["audio"][:] == [f"{tmp_path}/a.wav", None, "/x/b.wav"]
    assert load_manifest(write({"bytes": b"abc", "path": "a.wav"}, None))["audio"][:] == [b"abc", None]
    mixed = write({"bytes": b"abc", "path": None}, {"bytes": None, "path": "b.wav"})
    assert error_of(mixed).startswith(f"{mixed}, row 2: audio is a path without bytes, other rows have bytes")


def test_other_string_types_of_parquet(tmp_path: Path) -> None:
    table = pa.table({
        "id": pa.array(["a", "b"], pa.large_string()),
        "source_language": pa.array(["de", "de"]).dictionary_encode(),
        "transcript": ["x", "y"],
        "duration": pa.array([1, 2], pa.int32()),
        "speaker": pa.nulls(2),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "m.parquet")
    assert load_manifest(tmp_path / "m.parquet")["duration"][:] == [1.0, 2.0]


def test_several(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = write_lines(tmp_path / "1.jsonl", row())
    second = write_lines(tmp_path / "other" / "2.jsonl", row(id="b"))
    text = write_lines(tmp_path / "3.jsonl", row(id="c", audio=None))
    with_bytes = tmp_path / "4.parquet"
    write_manifest([row(id="d", audio=b"x")], with_bytes)
    assert load_manifest([first, second, text])["audio"][:] == [f"{tmp_path}/a.wav", f"{tmp_path}/other/a.wav", None]
    assert load_manifest([text, with_bytes])["audio"][:] == [None, b"x"]
    message = error_of([first, with_bytes])
    assert "4.parquet holds its audio as bytes" in message
    assert "1.jsonl as paths" in message
    again = write_lines(tmp_path / "5.jsonl", row(id="b"))
    assert "'b'" in error_of([first, second, again])
    assert error_of([]) == "no manifest was named"


def test_other_spellings_of_languages(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", row(source_language="zh-CN", target_language="English"), row(id="b"))
    manifest = load_manifest(path)
    assert manifest["source_language"][:] == ["zh", "de"]
    assert manifest["target_language"][:] == ["en", None]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('{"id": "b", ', ["not a JSON object on one line"]),
        ('["b"]', ["an array instead of a JSON object"]),
        (json.dumps(row(id="b")) + json.dumps(row(id="c")), ["not a JSON object on one line"]),
        (json.dumps(row(id="b"), indent=1), ["not a JSON object on one line"]),
        # As many objects as lines: two and one over two.
        ("{} {}\n".replace("{}", json.dumps(row(id="b"))) + '{"id": "c",\n"transcript": "d"}', ["one line"]),
        ('{"id": "b", "id": "c"}', ["'id' occurs twice"]),
        (row(id=7), ["'id' must be a string, not a number (7)"]),
        (row(id="b", duration="2 s"), ["'duration' must be a number, not a string"]),
        (row(id="b", duration=True), ["'duration' must be a number, not true or false"]),
        (row(id="b", transcript={"de": "ja"}), ["'transcript' must be a string, not an object"]),
        (row(id="b", transcrpt="x"), ["unknown column 'transcrpt': did you mean 'transcript'?"]),
        (row(id="b", zzz="x"), ["unknown column 'zzz': a manifest has id, audio"]),
        (row(id=...), ["no id"]),
        (row(id=" "), ["no id"]),
        (row(id="b", source_language=...), ["row 'b' has no source_language"]),
        (row(id="b", source_language="gr"), ["row 'b', source_language: unknown language 'gr'"]),
        (row(id="b", target_language="germn"), ["row 'b', target_language: unknown", "did you mean de (German)"]),
        (row(id="b", audio=..., transcript=""), ["row 'b' has neither audio nor transcript"]),
        (row(id="b", duration=0), ["row 'b' has the duration 0.0"]),
        (row(id="b", duration=-1.5), ["row 'b' has the duration -1.5"]),
        ('{"id": "b", "audio": "x", "source_language": "de", "duration": NaN}', ["the duration nan"]),
        (row(), ["the id 'a' is taken", "m.jsonl:1)"]),
    ],
)
def test_errors_name_the_line(tmp_path: Path, line: Any, parts: list[str]) -> None:
    path = write_lines(tmp_path / "m.jsonl", row(), "", row(id="x"), line, row(id="y"))
    message = error_of(path)
    assert message.startswith(f"{path}:4: ")
    for part in parts:
        assert part in message


def test_lines_are_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 1000)
    lines = [row(id=str(number)) for number in range(1, 301)]
    assert load_manifest(write_lines(tmp_path / "fine.jsonl", *lines))["id"][:] == [str(n) for n in range(1, 301)]
    for line, part in [("{", "not a JSON"), (row(id="b", source_language="xx"), "'xx'"), (row(id="7"), ":7)")]:
        message = error_of(write_lines(tmp_path / "bad.jsonl", *lines[:250], line, *lines[250:]))
        assert message.startswith(f"{tmp_path}/bad.jsonl:251: ")
        assert part in message


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(json.dumps(row()).encode() + b'\n{"id": "b", "transcript": "\xe4"}\n')
    assert "m.jsonl:2: not UTF-8" in error_of(tmp_path / "m.jsonl")


def test_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode())
    assert len(load_manifest(tmp_path / "m.jsonl")) == 1


def test_ids_of_equal_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hash", lambda text: 0, raising=False)
    assert len(load_manifest(write_lines(tmp_path / "m.jsonl", row(id="a"), row(id="b"), row(id="c")))) == 3
    message = error_of(write_lines(tmp_path / "n.jsonl", row(id="a"), row(id="b"), row(id="b")))
    assert "n.jsonl:3: the id 'b' is taken" in message


def test_all_duplicates_are_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", *[row(id=name) for name in "abcdefghabcdefg"])
    assert "'a', 'b', 'c', 'd', 'e' and 2 more" in error_of(path)


def test_parquet_errors(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "transcript": ["x", "y"], "source_language": ["de", "xx"]}), path)
    assert error_of(path).startswith(f"{path}, row 2: row 'b', source_language: unknown language 'xx'")
    pq.write_table(pa.table({"id": [1], "transcript": ["x"], "source_language": ["de"]}), path)
    assert "column 'id' is of type int64, not string" in error_of(path)
    pq.write_table(pa.table({"id": ["a"], "transcrpt": ["x"], "source_language": ["de"]}), path)
    assert "unknown column 'transcrpt': did you mean 'transcript'?" in error_of(path)
    pq.write_table(pa.table({"id": ["a"], "transcript": ["x"]}), path)
    assert "row 1: row 'a' has no source_language" in error_of(path)
    path.write_text("PAR1 not really")
    assert "not a Parquet file" in error_of(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "no such manifest" in error_of(tmp_path / "m.jsonl")
    assert "manifests are .jsonl or .parquet" in error_of(tmp_path)
    (tmp_path / "d.jsonl").mkdir()
    assert "not a file" in error_of(tmp_path / "d.jsonl")
    for content in ("", "\n\n"):
        (tmp_path / "e.jsonl").write_text(content)
        assert "has no rows" in error_of(tmp_path / "e.jsonl")
    with pytest.raises(ManifestError, match=r"not \.csv"):
        write_manifest([], tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="unknown column 'x'"):
        write_manifest([{"x": 1}], tmp_path / "m.jsonl")


def test_a_changed_manifest_is_read_again(tmp_path: Path, own_cache: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", row())
    load_manifest(path)
    kept = list(own_cache.rglob("*.arrow"))
    load_manifest(path)
    assert list(own_cache.rglob("*.arrow")) == kept
    write_lines(path, row(id="new"))
    assert load_manifest(path)["id"][:] == ["new"]
    assert len(list(own_cache.rglob("*.arrow"))) == 1


def test_a_copy_that_another_process_just_made_is_not_removed(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "m.jsonl", row())
    convert, nested = module._convert, []

    def while_another_does(source: Path, target: Path) -> None:
        if not nested:
            nested.append(True)
            load_manifest(path)
        convert(source, target)

    exists = Path.exists
    seen = []

    def late(file: Path) -> bool:
        """The other process is done just after this one looked."""
        if file.suffix == ".arrow" and not seen:
            seen.append(file)
            load_manifest(path)
            return False
        return exists(file)

    monkeypatch.setattr(Path, "exists", late)
    assert load_manifest(path)["id"][:] == ["a"]
    assert list(own_cache.rglob("*.arrow")) == seen
    write_lines(path, row(id="b"))
    monkeypatch.setattr(module, "_convert", while_another_does)
    assert load_manifest(path)["id"][:] == ["b"]
    assert len(list(own_cache.rglob("*.arrow"))) == 1


def test_every_language_of_the_table(tmp_path: Path) -> None:
    rows = [row(id=language.code, source_language=language.name) for language in LANGUAGES.values()]
    assert load_manifest(write_lines(tmp_path / "m.jsonl", *rows))["source_language"][:] == list(LANGUAGES)


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    with (tmp_path / "m.jsonl").open("w") as file:
        for number in range(1_000_000):
            file.write(json.dumps(row(id=f"clip_{number}", translation="some words in a row " * 3)) + "\n")
    before = pa.total_allocated_bytes()
    manifest = load_manifest(tmp_path / "m.jsonl")
    assert len(manifest) == 1_000_000
    assert manifest[999_999]["id"] == "clip_999999"
    assert pa.total_allocated_bytes() - before < 50e6


def test_patterns_name_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for pair in ("fr_en", "de_en", "en_de"):
        (tmp_path / pair).mkdir()
        write_lines(tmp_path / pair / "train.jsonl", row(id=pair))
    assert load_manifest(f"{tmp_path}/*_en/train.jsonl")["id"][:] == ["de_en", "fr_en"]
    assert load_manifest([f"{tmp_path}/**/train.jsonl"])["id"][:] == ["de_en", "en_de", "fr_en"]
    both = [tmp_path / "en_de" / "train.jsonl", tmp_path / "[df]*" / "train.jsonl"]
    assert load_manifest(both)["id"][:] == ["en_de", "de_en", "fr_en"]
    # A file that is there is meant as it is written.
    assert load_manifest(write_lines(tmp_path / "[de]*.jsonl", row(id="literal")))["id"][:] == ["literal"]


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    good = write_lines(tmp_path / "a.jsonl", row())
    assert error_of([good, f"{tmp_path}/*/dev.jsonl"]) == f"{tmp_path}/*/dev.jsonl: matches no file; check the pattern"
