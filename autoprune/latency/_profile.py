"""The profile: what was measured on a target, in a file that grows line by line.

The first line says for which target and machine it is; then come the shapes of networks, and networks that were measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from autoprune.errors import UsageError
from autoprune.latency._segments import FEATURES
from autoprune.latency._target import Target
from autoprune.support.jsonl import append_jsonl, read_jsonl, repair_jsonl
from autoprune.support.reading import reading
from autoprune.timing import can_keep_memory, cpu_name, package_version

VERSION = 1
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """One measured network.

    Attributes:
        network: Fingerprint of the dense network it was made from (see `Segments.network`).
        counts: Kept channels of each group that was not whole, by name.
        channels: What describes its segments, shape (segments, FEATURES).
        dense_s: Seconds of the dense network in the same rounds.
        ratio: Its time divided by the dense network's in the same round, median over the rounds.
        known: How well the ratio is known, as a share of it.
        rounds: Number of rounds.
        parts: Share of its time in each segment that is told apart, None if none is. The first layers of these are in
            ``spans``.
        spans: Number of the first layer of each such segment.
    """

    network: str
    counts: Mapping[str, int]
    channels: FloatArray
    dense_s: float
    ratio: float
    known: float
    rounds: int
    parts: FloatArray | None
    spans: tuple[int, ...] | None


@dataclass(frozen=True)
class Multiple:
    """A network whose channel counts are multiples of a number.

    Attributes:
        multiple: The number.
        macs: Share of the dense network's MACs that it has.
        ratio: Its time divided by the dense network's.
        at_equal_macs: The same for the share of MACs that was asked for, on the line to the dense network.
    """

    multiple: int
    macs: float
    ratio: float
    at_equal_macs: float


@dataclass(eq=False)
class Profile:
    """Measurements on one target.

    Attributes:
        target: The target, its number of threads filled in.
        machine: What it was measured with: ``cpu``, ``torch``, ``gpu``, ``onnxruntime`` (only for that runtime),
            ``memory_kept`` (torch on the CPU; see `autoprune.timing._allocator.kept_memory`).
        path: Its file; None for a profile in memory only.
        networks: Keys of the segments of the dense networks, by fingerprint.
        samples: The measured networks.
        multiples: Times of multiples of channels, by fingerprint of the dense network (see `best_multiple`).
    """

    target: Target
    machine: Mapping[str, Any]
    path: Path | None = None
    networks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    multiples: dict[str, tuple[Multiple, ...]] = field(default_factory=dict)

    @classmethod
    def open(cls, target: Target, path: str | os.PathLike[str] | None) -> Profile:
        """Return the profile in a file, to be continued, or a new one (None: in memory only).

        Raises:
            UsageError: if the file is damaged or for another target or machine.
        """
        if path is not None and Path(path).exists():
            repair_jsonl(path, sealed=False)
            return cls.load(path, expect=target)
        profile = cls(target.resolved, machine_of(target), None if path is None else Path(path))
        profile._append({"version": VERSION, "target": profile.target.to_dict(), "machine": dict(profile.machine)})
        return profile

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, expect: Target | None = None) -> Profile:
        """Read a profile.

        Args:
            path: The file.
            expect: The target it has to be for, on this machine; None to read any.

        Raises:
            UsageError: if it is missing, damaged, of another version, or for another target or machine.
        """
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"The profile '{path}' does not exist; make it with autoprune profile --out {path}.")
        head, *lines = read_jsonl(path, sealed=False) or [{}]
        version = head.get("version")
        if version != VERSION:
            raise UsageError(
                f"The profile '{path}' has version {version!r}, but this autoprune reads {VERSION}; "
                "it is damaged or from another autoprune: profile again into a new file."
            )
        with reading(f"The profile '{path}'", "profile again into a new file"):
            profile = cls(Target.from_dict(head["target"]), dict(head["machine"]), path)
            for line in lines:
                profile._read(line)
        if expect is not None:
            profile.check(expect)
        return profile

    def check(self, expect: Target) -> None:
        """See that the profile is for a target on this machine.

        Raises:
            UsageError: naming what it is for and what was expected.
        """
        expect = expect.resolved
        where = f"The profile '{self.path}'" if self.path is not None else "The profile"
        for key, value in expect.to_dict().items():
            own = self.target.to_dict()[key]
            if own != value:
                raise UsageError(
                    f"{where} is for {key} {own} ({self.target}), but the target has {key} {value} ({expect}); "
                    "profile that target into another file."
                )
        for key, value in machine_of(expect).items():
            if self.machine.get(key) != value:
                raise UsageError(
                    f"{where} was measured with {key} {self.machine.get(key)}, but here it is {value}; "
                    "profile again on this machine into another file."
                )

    def add_network(self, network: str, keys: Sequence[str]) -> None:
        """Add the shapes of a dense network, if they are new."""
        if network not in self.networks:
            self.networks[network] = tuple(keys)
            self._append({"network": network, "keys": list(keys)})

    def add(self, sample: Sample) -> None:
        """Add a measured network; it is on the disk when this returns."""
        self.samples.append(sample)
        self._append(
            {
                "measured": sample.network,
                "counts": dict(sample.counts),
                "dense_s": sample.dense_s,
                "ratio": round(sample.ratio, 6),
                "known": round(sample.known, 5),
                "rounds": sample.rounds,
                "channels": sample.channels.astype(int),
                "parts": None if sample.parts is None else np.round(sample.parts, 6),
                "spans": sample.spans,
            }
        )

    def add_multiples(self, network: str, measured: Sequence[Multiple]) -> None:
        """Add the times of multiples of channels."""
        self.multiples[network] = tuple(measured)
        self._append({"multiples": network, "measured": list(measured)})

    def of(self, network: str) -> list[Sample]:
        """Return the measured networks that were made from one dense network."""
        return [sample for sample in self.samples if sample.network == network]

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.path is not None:
            append_jsonl(self.path, line)

    def _read(self, line: Mapping[str, Any]) -> None:
        if "network" in line:
            self.networks[str(line["network"])] = tuple(str(key) for key in line["keys"])
            return
        if "multiples" in line:
            self.multiples[str(line["multiples"])] = tuple(Multiple(**entry) for entry in line["measured"])
            return
        keys = self.networks[line["measured"]]
        parts = None if line["parts"] is None else np.array(line["parts"], dtype=np.float64)
        spans = None if line["spans"] is None else tuple(int(number) for number in line["spans"])
        sample = Sample(
            str(line["measured"]),
            {str(name): int(count) for name, count in line["counts"].items()},
            np.array(line["channels"], dtype=np.float64).reshape(len(keys), FEATURES),
            float(line["dense_s"]),
            float(line["ratio"]),
            float(line["known"]),
            int(line["rounds"]),
            parts,
            spans,
        )
        if (parts is None) != (spans is None) or (parts is not None and parts.shape != (len(spans or ()),)):
            raise ValueError("the times of the segments are not as many as the segments")
        if not (sample.dense_s > 0 and sample.ratio > 0):
            raise ValueError("a time is not above 0")
        self.samples.append(sample)


def machine_of(target: Target) -> dict[str, Any]:
    """Return what a target's times depend on here: processor or GPU, versions, and whether freed memory is kept."""
    device = torch.device(target.device)
    found: dict[str, Any] = {"cpu": cpu_name(), "torch": torch.__version__}
    if device.type == "cuda" and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(device)
    if target.runtime == "onnxruntime":
        found["onnxruntime"] = package_version("onnxruntime")  # keeps its memory itself
    elif device.type == "cpu":
        found["memory_kept"] = can_keep_memory()
    return found
