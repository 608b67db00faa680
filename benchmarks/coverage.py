"""The coverage table: what of many networks can be pruned, what not and why, and whether what is pruned is right.

    python benchmarks/coverage.py --out docs/coverage.md

Every network runs in a process of its own with a time limit. Results are kept in a JSON Lines file, so that a run that was
stopped continues; ``--again failed`` repeats what failed, ``--again stale`` what an older version of the package measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _coverage_table import render
from _zoo import Entry, zoo

import autoprune
from autoprune.support.files import write_text_atomic
from autoprune.support.jsonl import append_jsonl, read_jsonl

MEASURED = ("graph", "surgery", "cost")


def code_version() -> str:
    """Return a fingerprint of the code that is measured."""
    root = Path(autoprune.__file__).parent
    files = sorted(path for part in MEASURED for path in (root / part).glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def run_one(entry: Entry, limit_s: float) -> dict[str, Any]:
    """Measure one network in a process of its own; never raises for what happens there."""
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name("_worker.py")), entry.key]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"status": "hung", "error": f"no result after {limit_s:.0f} s", "wall_s": time.perf_counter() - start}
    wall_s = time.perf_counter() - start
    if done.returncode == 0 and done.stdout.strip():
        return {"status": "ok", **json.loads(done.stdout.strip().splitlines()[-1]), "wall_s": wall_s}
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    refused = bool(lines) and lines[-1].startswith(("autoprune.errors.", "AutopruneError", "UsageError"))
    error = lines[-1] if lines else f"exit code {done.returncode}"
    return {"status": "refused" if refused else "crashed", "error": error, "wall_s": wall_s}


def is_due(record: Mapping[str, Any] | None, again: str, code: str) -> bool:
    """Return whether a network is measured (again)."""
    if record is None or again == "all":
        return True
    failed = record["status"] != "ok" or record["wrong"] or record["macs_wrong"] or record["params_wrong"]
    return (again in ("failed", "stale") and bool(failed)) or (again == "stale" and record["code"] != code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"), help="The table (Markdown).")
    parser.add_argument("--results", type=Path, default=Path("runs/coverage.jsonl"), help="Where results are kept.")
    parser.add_argument("--again", choices=("none", "failed", "stale", "all"), default="none")
    parser.add_argument("--only", default="", help="Only networks whose source:name or family contains this.")
    parser.add_argument("--limit-s", type=float, default=300.0, help="Time limit per network.")
    parser.add_argument("--jobs", type=int, default=1, help="Networks at a time, each on one thread; times suffer.")
    parser.add_argument("--table-only", action="store_true", help="Write the table from what was measured.")
    options = parser.parse_args()
    code = code_version()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    done = {
        record["key"]: record
        for record in (read_jsonl(options.results, sealed=False) if options.results.exists() else [])
    }
    entries = zoo()
    due = [
        entry
        for entry in entries
        if not options.table_only
        and options.only in f"{entry.key} {entry.family}"
        and is_due(done.get(entry.key), options.again, code)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, (entry, found) in enumerate(
            zip(due, pool.map(lambda entry: run_one(entry, options.limit_s), due), strict=True), 1
        ):
            done[entry.key] = {"key": entry.key, "code": code, **found}
            append_jsonl(options.results, done[entry.key])
            print(f"{number}/{len(due)} {entry.key}: {found['status']} {found.get('error', '')}", file=sys.stderr)
            write_text_atomic(options.out, render(entries, done))
    write_text_atomic(options.out, render(entries, done))


if __name__ == "__main__":
    main()
