"""From a name and options to an agent."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from autoprune.agents._base import Agent, agents
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.registry import import_object, nearest
from autoprune.support.reading import reading


def resolve_agent(agent: str | type[Agent]) -> type[Agent]:
    """Return the agent class for a registered name, ``package.module:Class`` or a class (returned as it is).

    Raises:
        UsageError: for an unknown name, something that cannot be imported or that is not an agent class.
    """
    found: object = agent
    if isinstance(agent, str):
        found = import_object(agent, "agent") if ":" in agent else agents.get(agent)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UsageError(f"The agent {agent!r} is not a subclass of autoprune.agents.Agent; derive it from that class.")
    return found


def make_agent(
    agent: str | type[Agent], problem: ProblemLike, *, seed: int = 0, episodes: int = 100, **options: object
) -> Agent:
    """Return a new agent for a problem.

    Args:
        agent: A registered name, ``package.module:Class`` or a class.
        problem: What is pruned.
        seed: Where all its random numbers come from.
        episodes: How many policies will be scored at most.
        **options: The agent's own keywords, and the fields of its parts (`Agent.parts`).

    Raises:
        UsageError: for an unknown agent or option, or a value out of range.
    """
    cls = resolve_agent(agent)
    if episodes < 1:
        raise UsageError(f"The number of episodes is {episodes}, but a search needs at least 1.")
    if seed < 0:
        raise UsageError(f"The seed is {seed}, but it must be 0 or more.")
    known, open_ended = _options(cls)
    for name, value in options.items():
        if name not in known and not open_ended:
            hint = nearest(name, list(known)) or f" It knows: {', '.join(known) or 'none'}."
            raise UsageError(f"The agent '{agent}' has no option '{name}'.{hint}")
        _check_kind(agent, name, value, known[name].annotation if name in known else "")
    if not options:
        return cls(problem, seed=seed, episodes=episodes)
    named = ", ".join(f"{name}={value!r:.60}" for name, value in options.items())
    with reading(
        f"The agent '{agent}'", "give other options, or none", fault=f"cannot be made with the options {named}"
    ):
        made = cls(problem, seed=seed, episodes=episodes, **_arguments(cls, options, known))
    return made


class _Option(NamedTuple):
    """How an agent's option is annotated, and the argument that it is a part of (`Agent.parts`), if it is no argument itself."""

    annotation: str
    part: str | None


def _arguments(cls: type[Agent], options: Mapping[str, object], known: Mapping[str, _Option]) -> dict[str, Any]:
    """Return an agent's arguments: its options, those of its parts put together."""
    parts: dict[str, dict[str, object]] = {}
    own: dict[str, Any] = {}
    for name, value in options.items():
        part = known[name].part if name in known else None
        if part is None:
            own[name] = value
        else:
            parts.setdefault(part, {})[name] = value
    return {**own, **{part: cls.parts[part](**values) for part, values in parts.items()}}


_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
}
_LARGEST = 2**53


def _options(cls: type[Agent]) -> tuple[dict[str, _Option], bool]:
    """Return the options of an agent and of the classes it passes others on to, and whether it takes any beside them."""
    found: dict[str, _Option] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        passes = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
        for parameter in parameters:
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in ("seed", "episodes"):
                continue
            if parameter.name not in cls.parts:
                found.setdefault(parameter.name, _Option(str(parameter.annotation), None))
            else:
                found = {**_of_part(cls, parameter.name), **found}
        if not passes:
            return found, False
        if not base.__module__.startswith("autoprune."):  # what a user's own class does with them is its own affair
            for name in cls.parts:
                found = {**_of_part(cls, name), **found}
            return found, True
    return found, True


def _of_part(cls: type[Agent], argument: str) -> dict[str, _Option]:
    """Return the options that are fields of one of an agent's parts."""
    return {item.name: _Option(str(item.type), argument) for item in fields(cls.parts[argument])}


def _check_kind(agent: object, name: str, value: object, annotation: str) -> None:
    """Refuse a value that is not of the kind that an option is annotated with, or no number to calculate with."""
    parts = [part.strip() for part in annotation.split("|")]
    if not all(part in _KINDS for part in parts):
        return
    kinds = tuple(kind for part in parts for kind in _KINDS[part])
    right = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
    if right and isinstance(value, int | float):
        right = abs(value) <= _LARGEST
    if not right:
        wanted = annotation.replace("None", "null")
        raise UsageError(
            f"The agent '{agent}' takes for '{name}' a value of type {wanted}, at most 2^53, but got {value!r:.60}."
        )
