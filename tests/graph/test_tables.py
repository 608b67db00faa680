"""Tables (``nn.Embedding``) make channels as layers do: against masked dense networks in double precision and by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoprune
from autoprune.graph import proved_graph
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery

WORDS, TOKENS, WIDTH = 11, 7, 12


class Words(nn.Module):
    """The mean of the words' rows, into classes."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH, **options)  # type: ignore[arg-type]
        self.hidden, self.head = nn.Linear(WIDTH, 10), nn.Linear(10, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.table(words).mean(1))))


class Placed(nn.Module):
    """Rows of words and of places are added, then convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.norm, self.conv, self.head = nn.LayerNorm(WIDTH), nn.Conv1d(WIDTH, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        rows = self.table(words) + self.places(torch.arange(words.shape[1], device=words.device))
        return self.head(F.relu(self.conv(self.norm(rows).mT)).mean(2))


class Tied(nn.Module):
    """The table gives the scores of the next word as well."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.head = (
            nn.Embedding(WORDS, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WORDS, False),
        )
        self.head.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(F.relu(self.mix(self.table(words))))


class Beside(nn.Module):
    """A class beside an image: its rows, by the function, are joined to the image's channels, and scale others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rows = nn.Conv2d(1, WIDTH, 3, padding=1), nn.Parameter(torch.randn(WORDS, WIDTH))
        self.more = nn.Embedding(WORDS, 5)
        self.head = nn.Linear(WIDTH + 5, 3)

    def forward(self, image: Tensor, kind: Tensor) -> Tensor:
        seen = F.relu(self.stem(image)) * F.embedding(kind, self.rows)[:, :, None, None]
        return self.head(torch.cat([seen.mean((2, 3)), self.more(kind)], 1))


def words(count: int = 6) -> Tensor:
    return torch.randint(WORDS, (count, TOKENS), generator=torch.Generator().manual_seed(1))


def image_and_kind() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(6, 1, 5, 5, generator=generator).double(), torch.randint(WORDS, (6,), generator=generator)


CASES = {
    "words": (Words, words, {"table": 12, "hidden": 10}),
    "padding": (lambda: Words(padding_idx=0), words, {"table": 12, "hidden": 10}),
    "placed": (Placed, words, {"table": 12, "conv": 8}),
    "tied": (Tied, words, {"table#2": 12}),
    "beside": (Beside, image_and_kind, {"rows": 12, "more": 5}),
}


@pytest.mark.parametrize("name", CASES)
def test_channels_of_tables_go_like_those_of_layers(name: str) -> None:
    make, inputs, expected = CASES[name]
    torch.manual_seed(0)
    model, example = make().double().eval(), inputs()
    graph = proved_graph(model, example)
    found = {group.name: group.size for group in graph.groups if group.reason is None}
    if name == "beside":  # the image's channels are the same as the rows'
        assert found.pop("stem") == 12
        found["rows"] = 12
        assert graph.group("stem").producers == ("stem", "rows")
    if name == "tied":
        assert graph.group("table#2").producers == ("table#2", "mix")  # the table's own name is the last layer's
    assert found == expected
    checked = check_surgery(model, graph, example, policies=6)
    assert checked.distance < 1e-10 < checked.effect
    assert (checked.macs_wrong, checked.params_wrong) == (0, 0)


def test_a_table_without_columns_is_the_same_network_with_them_at_zero() -> None:
    torch.manual_seed(0)
    model = Words(padding_idx=3).double().eval()
    graph = proved_graph(model, words())
    kept = np.array([0, 2, 3, 7, 11])
    small = prune_model(model, graph, {"table": kept})
    assert (small.table.embedding_dim, small.table.weight.shape, small.table.padding_idx) == (5, (WORDS, 5), 3)
    by_hand = copy.deepcopy(model)
    with torch.no_grad():
        by_hand.table.weight[:, np.setdiff1d(np.arange(WIDTH), kept)] = 0
        torch.testing.assert_close(small(words()), by_hand(words()), rtol=0, atol=1e-12)
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in model.parameters()) - 7 * (WORDS + 10)


def test_tables_that_stay_whole_say_why() -> None:
    class Computed(Words):
        def forward(self, words: Tensor) -> Tensor:
            return self.head(F.relu(self.hidden(F.embedding(words, self.table.weight.tanh()).mean(1))))

    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.table, self.head = nn.Linear(4, 6), nn.Embedding(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(self.first(x).argmax(1)))

    reasons = {refusal.reason for refusal in proved_graph(Computed().eval(), words()).refusals}
    assert any("computed" in reason for reason in reasons)
    norm = proved_graph(Words(max_norm=1.0).eval(), words())
    assert all(group.reason for group in norm.groups if "table" in group.producers)
    asked = proved_graph(Asked().eval(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert asked.group("first").reason is not None


def test_a_search_prunes_tables() -> None:
    torch.manual_seed(0)
    model = Words().eval()
    found = autoprune.search(
        model,
        words(2),
        calibration=words(64),
        evaluate=words(32),
        budget="params=0.5",
        agent="uniform",
        baselines=(),
        labels=False,
    )
    assert found.model.table.embedding_dim < WIDTH
    assert sum(p.numel() for p in found.model.parameters()) <= 0.5 * sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert torch.isfinite(found.model(words())).all()


def test_a_table_that_is_a_last_layer_too_is_not_refitted() -> None:
    torch.manual_seed(0)
    model = Tied().eval()
    options = {"calibration": words(64), "evaluate": words(32), "agent": "uniform", "baselines": (), "labels": False}
    found = autoprune.search(model, words(2), budget="params=0.6", finish_steps=2, **options)
    small = found.model
    assert small.head.weight is small.table.weight
    (kept,) = found.policy.kept().values()
    assert len(kept) < WIDTH
    torch.testing.assert_close(small.table.weight, model.table.weight[:, kept], rtol=0, atol=0)
