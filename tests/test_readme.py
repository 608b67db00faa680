from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_agent_it_shows_meets_the_contract(tmp_path: Path) -> None:
    block = next(block for block in blocks("python") if "@agents.register" in block)
    check = "from autoprune.testing import AgentContract\n\nclass TestHalves(AgentContract):\n    agent = Halves\n"
    (tmp_path / "test_halves.py").write_text(f"{block}\n{check}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_verb_and_option_it_names_exists() -> None:
    from typer.main import get_command

    from autoprune.cli._app import app

    command = get_command(app)
    verbs = command.commands  # type: ignore[attr-defined]
    known = {
        option
        for verb in verbs.values()
        for parameter in verb.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--help"}
    assert named <= known
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) == set(verbs)
    assert set(re.findall(r"autoprune (\w+) ", "".join(blocks("sh")))) <= set(verbs)


def test_it_has_the_two_commands_each_on_a_line_of_its_own() -> None:
    lines = "".join(blocks("sh")).splitlines()
    assert sum("pip install" in line and line.endswith("autoprune search --budget 0.5") for line in lines) == 1
    assert sum("pip install" in line and line.endswith("pytest") for line in lines) == 1
