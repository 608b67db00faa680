"""Tables are as wide as what is in them, on whatever terminal; what stands in a cell is printed as it is."""

import random

import pytest

from autoprune.errors import UsageError
from autoprune.support import packages
from autoprune.support.tables import aligned, grid, plain

HEAD = ("", "MACs", "accuracy")
LINES = [("dense [bold]", "597,216", "98.99 ± 0.50"), ("uniform :smile:", "298,272", "7"), ("a" * 90, "1", "-")]


def _expected(head: tuple[str, ...], lines: list[tuple[str, ...]], left: int) -> list[str]:
    widths = [max(len(line[place]) for line in (head, *lines)) for place in range(len(head))]
    text = [
        "  ".join(
            c.ljust(w) if place < left else c.rjust(w) for place, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *lines)
    ]
    return [text[0].rstrip(), "-" * len(text[0]), *(line.rstrip() for line in text[1:])]


@pytest.mark.parametrize("seed", range(30))
def test_it_is_what_padding_by_hand_gives(seed: int) -> None:
    rng = random.Random(seed)
    columns = rng.randint(1, 8)

    def line() -> tuple[str, ...]:
        return tuple("".join(rng.choice("ab[/]:,.1±→█") for _ in range(rng.randint(1, 30))) for _ in range(columns))

    head, lines, left = line(), [line() for _ in range(rng.randint(0, 4))], rng.randint(0, columns)
    assert aligned(head, lines, left=left).splitlines() == _expected(head, lines, left)


def test_nothing_is_wrapped_or_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = aligned(HEAD, LINES)
    assert text.splitlines() == _expected(HEAD, LINES, 1)
    assert plain(grid(HEAD, "lrr", LINES), width=80) == text


def test_only_cells_that_may_be_wrapped_are() -> None:
    words = "one two three four five six seven eight nine ten"
    text = plain(
        grid(("group", "made by", "size"), "llr", [("g" * 40, words, "12,345")], wrapped=("made by",)), width=80
    )
    lines = text.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("g" * 40)
    assert lines[2].endswith("12,345")
    assert [word for word in text.split() if word in words.split()] == words.split()


def test_without_rich_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    fresh = packages.lazy("rich.table", "A text table needs")
    with pytest.raises(
        UsageError, match=r"^A text table needs the package 'rich', which is not installed: pip install rich\.$"
    ):
        _ = fresh.Table
