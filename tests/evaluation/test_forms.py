from __future__ import annotations

from comsl.evaluation.forms import FORMS


def test_forms() -> None:
    text = "L\u2019habit, celui-ci\u00a0: «\u00a0s'est\u00a0» gâté!"
    assert FORMS["lc"].change(text) == text.lower()
    assert FORMS["lc.rm"].change(text) == "l'habit celuici s'est gâté"
