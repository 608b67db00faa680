"""The policy file: which channels of which group stay, what that was to meet, and what it achieved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from autoprune.errors import UsageError
from autoprune.groups import IntArray
from autoprune.registry import nearest
from autoprune.support.strict_json import read_json, write_json_atomic

POLICY_VERSION = 1


class Decided(Protocol):
    """What a policy's entry needs of a decision."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def size(self) -> int:
        """Its units in the dense network."""


@dataclass(frozen=True)
class PolicyGroup:
    """What stays of one coupling group.

    Attributes:
        name: The group's name in the coupling graph.
        size: Its channels in the dense network.
        kept: How many stay.
        indices: Which, ascending.
        kind: What is decided: channels, or another registered kind of decision (`autoprune.decisions`), whose units these are.
    """

    name: str
    size: int
    kept: int
    indices: tuple[int, ...]
    kind: str = "channels"

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("A group of the policy has an empty name.")
        least = 1 if self.kind == "channels" else 0
        if self.size < 1 or self.kept != len(self.indices) or self.kept < least:
            raise UsageError(
                f"Group '{self.name}' of the policy says {self.kept} of {self.size} channels are kept and lists "
                f"{len(self.indices)}; the numbers must agree and at least one must stay."
            )
        if list(self.indices) != sorted(set(self.indices)) or (
            self.indices and (self.indices[0] < 0 or self.indices[-1] >= self.size)
        ):
            raise UsageError(
                f"The channels kept of group '{self.name}' of the policy must be distinct, ascending numbers in "
                f"0..{self.size - 1}."
            )


@dataclass(frozen=True)
class Policy:
    """A pruning policy, complete enough to rebuild the small network from the original constructor.

    Attributes:
        groups: What stays of each decided group; groups not listed are whole.
        model: How to make the dense network: at least its spec and input shape.
        budget: What was to be met (see `autoprune.evaluation._score.Budget`).
        achieved: ``macs, params, dense_macs, dense_params, ratio``.
        score: The score (see `autoprune.evaluation.Score`).
        seed: The seed of the search, None if there was none.
        agent: Who proposed it.
        version: Version of the file format.
    """

    groups: tuple[PolicyGroup, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    achieved: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    agent: str = ""
    version: int = POLICY_VERSION

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"The policy lists group '{twice}' twice.")

    @staticmethod
    def groups_of(
        decisions: Sequence[Decided],
        kept: Mapping[str, Sequence[int] | IntArray],
        kinds: Mapping[str, str] | None = None,
    ) -> tuple[PolicyGroup, ...]:
        """Return the entries for what was decided; what is missing in ``kept`` is whole.

        Args:
            decisions: Coupling groups, and other decisions.
            kept: Which units stay, by name.
            kinds: The kinds of those that are not channels, by name.
        """
        entries = []
        for group in decisions:
            indices = tuple(int(i) for i in kept.get(group.name, range(group.size)))
            kind = (kinds or {}).get(group.name, "channels")
            entries.append(PolicyGroup(group.name, group.size, len(indices), indices, kind))
        return tuple(entries)

    def kept(self) -> dict[str, IntArray]:
        """Return group name -> channels kept, as `autoprune.surgery.prune_model` takes it."""
        return {group.name: np.asarray(group.indices, dtype=np.int64) for group in self.groups}

    def counts(self) -> tuple[int, ...]:
        """Return how many channels each group keeps, in the order of ``groups``."""
        return tuple(group.kept for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the policy file, the version first."""
        content = asdict(self)
        for entry in content["groups"]:
            if entry["kind"] == "channels":
                del entry["kind"]
        return {"version": content.pop("version"), **content}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the policy file atomically."""
        write_json_atomic(path, self.to_dict())

    @classmethod
    def from_dict(cls, content: object) -> Policy:
        """Return the policy that the content of a policy file says.

        Raises:
            UsageError: for another version, unknown or missing keys, and values of the wrong kind.
        """
        if not isinstance(content, dict):
            raise UsageError("A policy must be a JSON object.")
        version = content.get("version")
        if version != POLICY_VERSION or isinstance(version, bool):
            raise UsageError(
                f"The policy has version {version!r}, but this autoprune reads version {POLICY_VERSION}; "
                "use the autoprune that wrote it."
            )
        _check_keys(content, [entry.name for entry in fields(cls)], "the policy")
        values = {key: _typed(content, key, kind) for key, kind in _KINDS.items()}
        return cls(groups=tuple(_group(entry) for entry in values.pop("groups")), **values)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy file.

        Raises:
            UsageError: if it is missing, damaged, or of another version.
        """
        content = read_json(path, "policy", sealed=False)
        try:
            return cls.from_dict(content)
        except UsageError as error:
            raise UsageError(f"The policy '{path}' cannot be used: {error}") from error


_KINDS: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "groups": (list,),
    "model": (dict,),
    "budget": (dict,),
    "achieved": (dict,),
    "score": (dict,),
    "seed": (int, type(None)),
    "agent": (str,),
}
_GROUP_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "size": (int,),
    "kept": (int,),
    "indices": (list,),
    "kind": (str,),
}


def _check_keys(content: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in content:
        if key not in known:
            raise UsageError(f"Unknown key '{key}' in {where}.{nearest(key, known)} Known: {', '.join(known)}.")
    for key in known:
        if key not in content:
            raise UsageError(f"The key '{key}' is missing in {where}.")


def _typed(content: Mapping[str, Any], key: str, kinds: tuple[type, ...]) -> Any:
    value = content[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise UsageError(f"'{key}' in the policy is {value!r:.60}, but must be of type {wanted}.")
    return value


def _group(content: object) -> PolicyGroup:
    if not isinstance(content, dict):
        raise UsageError(f"An entry of 'groups' in the policy is {content!r:.60}, but must be an object.")
    content = {"kind": "channels", **content}
    _check_keys(content, list(_GROUP_KINDS), "a group of the policy")
    values = {key: _typed(content, key, kinds) for key, kinds in _GROUP_KINDS.items()}
    indices = values.pop("indices")
    if not all(type(index) is int for index in indices):
        raise UsageError(f"'indices' of group '{values['name']}' in the policy must be whole numbers.")
    return PolicyGroup(indices=tuple(indices), **values)
