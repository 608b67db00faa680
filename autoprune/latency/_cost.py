"""Predicted latency as a cost of the kept channel counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from autoprune.errors import UsageError
from autoprune.graph import Group, IntArray, PruningGraph
from autoprune.latency._fit import BLOCKS, Observed, Rows, terms
from autoprune.latency._local import NOISES, REACHES, LocalCorrection, alike, left_out
from autoprune.latency._measure import LEAST_NETWORKS
from autoprune.latency._profile import Profile, Sample
from autoprune.latency._remeasuring import APART
from autoprune.latency._segments import Segments

FloatArray = npt.NDArray[np.float64]
LEAST = 5
"""Measured networks below which nothing is predicted."""


class LatencyCost:
    """Seconds of one batch on a profile's target.

    The sum of a regression for each segment (see `autoprune.latency._fit`), corrected by what networks near by took whole.
    Block size and reach of the corrections are those that predict measured networks best that are left out. The dense
    network takes what it took; what the sum misses of that is corrected around it only.

    Args:
        profile: What was measured; networks of other models count for the segments that they have in common with this one.
        graph: The coupling graph of the model.
        decisions: The groups that a policy decides, in order.

    Attributes:
        network: Fingerprint of the dense network.
        sizes: Channels of each decision.
        dense: Seconds of the dense network.
        error: Of ten measured networks that were left out one by one, the ratio to the dense network's time was predicted to
            at least this for nine.
        block: Channels are rounded up to multiples of it.

    Raises:
        UsageError: if the profile does not know the model's layers.
    """

    def __init__(self, profile: Profile, graph: PruningGraph, decisions: Sequence[Group]) -> None:
        self._segments = Segments(graph, decisions)
        self.network, self.sizes = self._segments.network, self._segments.sizes
        profile = _in_usual_state(profile)
        _check(profile, self._segments, decisions)
        self.dense = _dense_seconds(profile)[self._segments.network]
        own = [number for number, sample in enumerate(profile.samples) if sample.network == self._segments.network]
        chosen = _choose(profile, own)
        self.error, self.block = chosen.error, chosen.block
        coefficients = chosen.rows.fit()
        self._weights = np.stack([coefficients[key] for key in self._segments.keys])
        whole = np.array([self._segments.sizes], dtype=np.int64)
        self._whole_channels = self._segments.channels(whole)[0, :, :2]
        self._local: LocalCorrection | None = None
        self._missed = 0.0
        samples = [profile.samples[number] for number in own]
        if chosen.near is not None:
            channels = np.stack([sample.channels for sample in samples])
            left = np.log([sample.ratio * self.dense for sample in samples]) - np.log(self._sums(channels))
            self._local = LocalCorrection.fit(self._shares(channels), left, *chosen.near)
        self._missed = float(np.log(self.dense / self.many(whole)[0]))

    def _sums(self, channels: FloatArray) -> FloatArray:
        found: FloatArray = np.einsum("nst,st->n", terms(channels, self.block), self._weights)
        return found

    def _shares(self, channels: FloatArray) -> FloatArray:
        return (channels[..., :2] / self._whole_channels).reshape(len(channels), -1)

    def __call__(self, counts: Sequence[int]) -> float:
        """Return the seconds of a policy."""
        return float(self.many(np.array([counts], dtype=np.int64))[0])

    def many(self, counts: IntArray) -> FloatArray:
        """Return the seconds of many policies; counts of shape (N, decisions), result of shape (N,)."""
        channels = self._segments.channels(counts)
        shares = self._shares(channels)
        correction = self._missed * alike(shares, np.ones((1, shares.shape[1])), REACHES[0])[:, 0]
        if self._local is not None:
            correction = correction + self._local(shares)
        seconds: FloatArray = self._sums(channels) * np.exp(correction)
        return seconds

    def by_segment(self, counts: Sequence[int]) -> list[tuple[str, str, float]]:
        """Return name, key and seconds of each segment of a policy, without the corrections for the whole."""
        channels = self._segments.channels(np.array([counts], dtype=np.int64))
        seconds = (terms(channels, self.block)[0] * self._weights).sum(axis=1)
        return [(item.layer, item.key, float(value)) for item, value in zip(self._segments.items, seconds, strict=True)]


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What predicts best: the block size, and reach and noise of the corrections (None for none)."""

    error: float
    block: int
    rows: Rows
    near: tuple[float, float] | None


def _choose(profile: Profile, own: Sequence[int]) -> _Chosen:
    """Return what predicts the ratios of the own networks best, each from all others."""
    dense = _dense_seconds(profile)
    observed = [
        _observed(sample, profile.networks[sample.network], dense[sample.network]) for sample in profile.samples
    ]
    samples = [profile.samples[number] for number in own]
    ratios = np.array([sample.ratio for sample in samples])
    own_dense = dense[samples[0].network]
    whole = max(samples, key=lambda sample: float(sample.channels[:, :2].sum()))
    channels = np.stack([sample.channels for sample in samples])
    shares = (channels[..., :2] / whole.channels[:, :2]).reshape(len(samples), -1)
    best: tuple[float, _Chosen] | None = None
    for block in BLOCKS:
        rows = Rows(observed, block)
        values = terms(channels, block)
        sums = []
        for number in own:
            coefficients = rows.fit(without=number)
            weights = np.stack([coefficients[key] for key in profile.networks[samples[0].network]])
            sums.append(np.einsum("nst,st->n", values, weights) / own_dense)
        alone = np.array([row[place] for place, row in enumerate(sums)])
        left = [np.log(ratios) - np.log(row) for row in sums]
        options: list[tuple[tuple[float, float] | None, FloatArray]] = [(None, alone)]
        options += [
            ((reach, noise), alone * np.exp(left_out(shares, left, reach, noise)))
            for reach in REACHES
            for noise in NOISES
        ]
        for near, ratio in options:
            errors = np.abs(ratio - ratios)
            score = float(np.sqrt((errors**2).mean()))
            if best is None or score < best[0]:
                best = (score, _Chosen(float(np.quantile(errors, 0.9)), block, rows, near))
    assert best is not None
    return best[1]


def _observed(sample: Sample, keys: tuple[str, ...], dense_s: float) -> Observed:
    seconds = sample.ratio * dense_s
    if sample.parts is None or sample.spans is None:
        return Observed(sample.channels, keys, (0,), np.array([seconds]))
    return Observed(sample.channels, keys, sample.spans, sample.parts * seconds)


def _in_usual_state(profile: Profile) -> Profile:
    """Return the profile without what was measured while the machine was much slower or faster than usual.

    Of each network enough must be left to predict from; the dense one stays, whose ratio is 1 in any state.
    """
    dense = _dense_seconds(profile)
    kept: list[Sample] = []
    for network, usual_s in dense.items():
        own = profile.of(network)
        usual = [s for s in own if not s.counts or usual_s / APART <= s.dense_s <= usual_s * APART]
        kept += usual if len(usual) >= LEAST_NETWORKS else own
    return replace(profile, samples=kept)


def _dense_seconds(profile: Profile) -> Mapping[str, float]:
    """Return the median seconds of each dense network over all rounds that it was called in turn with."""
    found: dict[str, list[float]] = {}
    for sample in profile.samples:
        found.setdefault(sample.network, []).append(sample.dense_s)
    return {network: median(values) for network, values in found.items()}


def _check(profile: Profile, segments: Segments, decisions: Sequence[Group]) -> None:
    where = "The profile" if profile.path is None else f"The profile '{profile.path}'"
    known = {key for sample in profile.samples for key in profile.networks[sample.network]}
    if missing := [item for item in segments.items if item.key not in known]:
        raise UsageError(
            f"{where} knows {len(segments.items) - len(missing)} of the model's {len(segments.items)} layers (not "
            f"'{missing[0].layer}'); add the model to it with autoprune profile."
        )
    varied = {name for sample in profile.of(segments.network) for name in sample.counts}
    kinds = {group.kind for group in decisions if group.name in varied}
    if still := [
        group for group in decisions if group.kind not in kinds
    ]:  # of one alone there may be but one allowed count
        raise UsageError(
            f"{where} has no network in which '{still[0].name}' keeps fewer channels; add some with autoprune profile"
            f"{' --include-residual' if still[0].kind == 'residual' else ''}."
        )
    own = len(profile.of(segments.network))
    if own < LEAST:
        raise UsageError(
            f"{where} has {own} measured networks of this model, but at least {LEAST} are needed; "
            "add them with autoprune profile."
        )
