"""The page in a browser: no console message, and nothing is asked of the network (its policy forbids all of it)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from autoprune.page import write_page

from ._parse import Page
from ._runs import make_run, time, tune

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_no_console_message_and_the_numbers_are_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    tune(run, "distilled")
    time(run)
    path, _ = write_page([run])
    assert "default-src 'none'" in path.read_text(encoding="utf-8").replace("&#39;", "'")
    dom, said = opened(path, tmp_path)
    assert "CONSOLE" not in said
    assert Page(dom).values == Page(path.read_text(encoding="utf-8")).values


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_browser_would_say_so(tmp_path: Path) -> None:
    path, _ = write_page([make_run(tmp_path / "run")])
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'), encoding="utf-8")
    assert "CONSOLE" in opened(path, tmp_path)[1]


def opened(path: Path, folder: Path) -> tuple[str, str]:
    """Open a page and return its document and what the browser logs."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium does not come to an end here")
    if done.returncode != 0 or not done.stdout:
        pytest.skip("Chromium does not start here")
    return done.stdout, done.stderr
