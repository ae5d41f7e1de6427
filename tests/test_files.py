from pathlib import Path

import pytest

from comsl.files import matching, replacing, write_atomically


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "ältere\n")
    assert path.read_bytes() == "ältere\n".encode()

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path  # a rename goes no further than its file system
            assert path.read_text(encoding="utf-8") == "ältere\n"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text(encoding="utf-8") == "ältere\n"
    write_atomically(path, b"\xff\n")
    assert path.read_bytes() == b"\xff\n"
    assert list(tmp_path.iterdir()) == [path]


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # which was done last
    assert list(tmp_path.iterdir()) == [path]


def test_names_and_patterns(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "[ab].txt", "c.md"):
        (tmp_path / name).touch()
    assert matching(f"{tmp_path}/?.txt") == [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"]
    assert matching(f"{tmp_path}/[ab].txt") == [f"{tmp_path}/[ab].txt"]  # is there
    assert matching(f"{tmp_path}/none.txt") == [f"{tmp_path}/none.txt"]
    assert matching(f"{tmp_path}/*.mp3") == []
