"""The verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli import _compare, _eval, _export, _finetune, _inspect, _profile, _prune, _report, _search, _verify
from autoprune.cli._output import result

app = typer.Typer(
    name="autoprune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Automatic channel pruning: a budget in, a smaller ordinary PyTorch network and the policy that made it out.",
    epilog="Start with: autoprune search --budget 0.5",
)


def _version(wanted: bool) -> None:
    if wanted:
        from autoprune import __version__

        result(f"autoprune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Automatic channel pruning: a budget in, a smaller ordinary PyTorch network and the policy that made it out."""


app.command("search", epilog=_search.EPILOG)(_search.search)
app.command("compare", epilog=_compare.EPILOG)(_compare.compare)
app.command("inspect", epilog=_inspect.EPILOG)(_inspect.inspect)
app.command("profile", epilog=_profile.EPILOG)(_profile.profile)
app.command("prune", epilog=_prune.EPILOG)(_prune.prune)
app.command("finetune", epilog=_finetune.EPILOG)(_finetune.finetune)
app.command("export", epilog=_export.EPILOG)(_export.export)
app.command("verify", epilog=_verify.EPILOG)(_verify.verify)
app.command("eval", epilog=_eval.EPILOG)(_eval.evaluate)
app.command("report", epilog=_report.EPILOG)(_report.report)
