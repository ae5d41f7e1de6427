"""How large CoVoST 2 is, as published.

Rows: of the splits of its own procedure over Common Voice 4, as the ``covost2`` data set of huggingface/datasets counts
them (``dataset_infos.json``, there until 2022; the sizes on the hub's page of the data set are the same).
Hours: CoVoST 2 (arXiv 2007.10310), table 1; of the extended split for train, of Common Voice's own for dev and test,
as the procedure takes them.
"""

from __future__ import annotations

from typing import NamedTuple

RELEASE = "Common Voice 4 (cv-corpus-4-2019-12-10)"
"""What CoVoST 2 was made from."""

SPLITS = ("train", "dev", "test")


class Size(NamedTuple):
    """Of one split."""

    rows: int
    hours: float


# Source language: rows of train, dev, test; hours of the same.
_INTO_ENGLISH = """
fr 207374 14760 14760 264 22 23
de 127834 13511 13511 184 21 22
es  79015 13221 13221 113 22 23
ca  95854 12730 12730 136 19 20
it  31698  8940  8951  44 14 15
ru  12112  6110  6300  18 10 11
zh   7085  4843  4898  10  8  8
pt   9158  3318  4023  10  4  5
fa  53949  3445  3445  49  5  5
et   1782  1576  1571   3  3  3
mn   2067  1761  1759   3  3  3
nl   7108  1699  1699   7  2  2
tr   3966  1624  1629   4  2  2
ar   2283  1758  1695   2  2  2
sv   2160  1349  1595   2  1  2
lv   2337  1125  1629   2  1  2
sl   1843   509   360   2  1  1
ta   1358   384   786   2  1  1
ja   1119   635   684   1  1  1
id   1243   792   844   1  1  1
cy   1241   690   690   2  1  1
"""

_FROM_ENGLISH = {"train": Size(289430, 430), "dev": Size(15531, 26), "test": Size(15531, 25)}
"""The same for all 15 target languages."""


def _parse() -> dict[str, dict[str, Size]]:
    table = {}
    for line in _INTO_ENGLISH.strip().splitlines():
        language, *numbers = line.split()
        rows, hours = numbers[:3], numbers[3:]
        table[language] = {
            split: Size(int(count), float(time)) for split, count, time in zip(SPLITS, rows, hours, strict=True)
        }
    return table


_SIZES = _parse()


def published_size(source: str, target: str, split: str) -> Size:
    """Of a split of one of CoVoST 2's pairs, by the codes of ``comsl.languages``."""
    return _FROM_ENGLISH[split] if source == "en" else _SIZES[source][split]
