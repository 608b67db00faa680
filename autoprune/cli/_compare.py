"""``autoprune compare``: several agents with equal effort on one problem."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autoprune.budget import Budget
from autoprune.cli import _options as options
from autoprune.cli._output import complain, result, result_json, say
from autoprune.cli._signals import stopped
from autoprune.errors import UsageError

EPILOG = """\b
Examples:
    autoprune compare --budget 0.5 --agents auto,tpe,random,uniform --episodes 30 --seeds 2 --out runs/compare
    autoprune compare --budget 0.5 --model cifar-resnet20 --weights resnet20.safetensors \\
        --data cifar10:data/cifar10 --agents auto,ddpg,tpe,random,uniform,shallow --seeds 4 --out runs/r20
"""


def compare(
    budget: Annotated[
        str, typer.Option("--budget", metavar="BUDGET", help="Share of the MACs that may stay, as for search.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs; what is there is not done again.")],
    agents: Annotated[
        str, typer.Option("--agents", metavar="A,B,..", help="Agents to compare.")
    ] = "auto,ddpg,tpe,random,uniform,shallow",
    episodes: Annotated[int, typer.Option("--episodes", help="Policies that each may propose.")] = 100,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds, from 0.")] = 1,
    race: options.Race = None,
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    download: options.Download = False,
    device: options.Device = None,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Compare agents: means over seeds, paired intervals on the report part, best-so-far curves against policies and cost."""
    from autoprune.cli._progress import RichProgress
    from autoprune.comparison import compare as run
    from autoprune.comparison import draw, sentences, table

    if seeds < 1:
        raise UsageError(f"The number of seeds is {seeds}, but must be at least 1.")
    asked: dict[str, Any] = {"model": model, "weights": weights, "data": data, "device": device}
    asked |= {"episodes": episodes, "race": race}
    asked = {key: value for key, value in asked.items() if value is not None} | {"budget": Budget(budget)}
    names = [name.strip() for name in agents.split(",") if name.strip()]
    with RichProgress(quiet=quiet) as progress:
        try:
            found = run(asked, out, agents=names, seeds=range(seeds), progress=progress, download=download)
        except KeyboardInterrupt as stop:
            if debug:
                raise
            progress.stop()
            word, code = stopped(stop)
            complain(f"{word}; the same command goes on with '{out}'.")
            return code
    try:
        draw(found, out / "curves.png")
    except UsageError as error:
        say(str(error))
    if as_json:
        result_json(found)
        return 0
    result(table(found))
    result("")
    for sentence in sentences(found):
        result(sentence)
    result(f"Runs, comparison.json and curves.png are in {out}")
    return 0
