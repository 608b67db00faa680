"""The page of one run: its numbers are the report's, it is well formed, needs nothing else, and escapes what it is given."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from autoprune.cli import main
from autoprune.errors import UsageError
from autoprune.page import read_run, verdict, write_page
from autoprune.report import sentences, table
from autoprune.support.jsonl import to_line
from autoprune.support.strict_json import read_json, write_json_atomic

from ._parse import Page
from ._runs import SIZES, make_run, time, tune


def written(*folders: Path, out: Path | None = None) -> tuple[Page, str]:
    path, _ = write_page(folders, out)
    source = path.read_text(encoding="utf-8")
    return Page(source), source


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_every_number_of_the_table_is_the_reports(run: Path) -> None:
    tune(run, "distilled")
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    page, _ = written(run)
    fields = ("accuracy", "search_accuracy", "loss", "macs", "params")
    for row in report["rows"]:
        for field in (*fields, "policies_scored", "score_cost", "images"):
            shown = page.values[row["name"], field]
            assert (json.loads(shown) if shown else None) == row[field]
        assert f"{100 * row['accuracy']:.2f}\xa0±\xa0{100 * row['accuracy_se']:.2f}" in page.text
    for result in report["finetuned"]:
        for field in fields:
            assert json.loads(page.values[f"finetune/{result['name']}", field]) == result[field]
    assert {name: int(count) for name, count in page.groups.items()} == report["final"]["counts"]


def test_measured_times_are_those_of_the_file(run: Path) -> None:
    timing = time(run)
    page, _ = written(run)
    for row in timing["rows"]:
        assert json.loads(page.values[f"{row['name']}/{row['target']}/{row['batch']}", "ms"]) == row["ms"]
    assert "0.64 of the dense network's time (onnxruntime, batch 1)" in page.text
    assert "a <b> CPU" in page.text


def test_it_is_well_formed_and_needs_nothing_else(run: Path) -> None:
    tune(run, "distilled")
    tune(run, "scratch", scratch=True)
    time(run)
    page, source = written(run)
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "object", "embed", "image", "use"} & set(page.tags)
    assert not [entry for entry in page.attributes if entry[1] in ("src", "href", "srcset", "xlink:href")]
    assert not [entry for entry in page.attributes if entry[1].startswith("on")]
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in source
    assert "@import" not in source
    named = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-labelledby"]
    assert named
    assert set(named) <= set(page.ids)
    assert {value for _, name, value in page.attributes if name == "for"} <= set(page.ids)
    assert ("html", "lang", "en") in page.attributes


def test_a_long_search_stays_small(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", policies=4000)
    assert len(written(run)[1]) < 1_500_000


HOSTILE = "x\"><script>alert(1)</script><b>&amp;'\u202e\x07"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    sizes = {f"g{HOSTILE}": 8, "</style></svg>": 16}
    run = make_run(
        tmp_path / "a <b>&",
        sizes=sizes,
        notes=("<img src=x onerror=alert(1)>", "half a character: \ud800"),
        model=f"m{HOSTILE}",
        agent="</title><script>",
    )
    tune(run, "<u>&")
    page, source = written(run)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "u" not in page.tags
    assert "img" not in page.tags
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "x\"><script>alert(1)</script><b>&amp;'" in page.text
    assert "</style></svg>" in page.groups
    assert source.count("</svg>") == page.tags.count("svg")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", source)


def test_an_unfinished_run_shows_what_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    page, _ = written(run)
    assert "is not finished" in page.text
    assert "Learning curve" in page.text
    assert ("uniform", "accuracy") in page.values
    assert ("tpe", "accuracy") not in page.values


def test_a_run_without_a_single_policy(run: Path) -> None:
    for name in ("report.json", "episodes.jsonl"):
        (run / name).unlink()
    assert "0 policies scored so far" in written(run)[0].text


def test_without_a_report_part_it_says_that_the_numbers_flatter(tmp_path: Path) -> None:
    page, _ = written(make_run(tmp_path / "run", images=None))
    assert "flatter" in page.text
    assert "\xa0±" not in page.text


def test_fine_tunings_are_curves_and_sentences(run: Path) -> None:
    tune(run, "distilled")
    tune(run, "plain", done=False)
    page, _ = written(run)
    assert "not finished, 4 epochs so far" in page.text
    assert "91.06\xa0±\xa00.52 % on the report part after 4 epochs" in page.text
    assert "fine-tuned, distilled, epoch 4: 89.00 %, best so far" in page.text


def test_two_runs_are_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    other = make_run(tmp_path / "two", agent="ddpg", seed=5, accuracy={"dense": 0.92, "tpe": 0.80})
    page, _ = written(one, other)
    assert (one / "comparison.html").is_file()
    for name in ("one", "two"):
        report = json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))
        assert json.loads(page.values[name, "accuracy"]) == report["final"]["accuracy"]
    assert "one has the best refitted network" in page.text
    assert "more than chance" in page.text
    assert "What each run's policy keeps" in page.text
    assert len(page.ids) == len(set(page.ids))
    unlike = make_run(tmp_path / "three", sizes={**SIZES, "head": 8})
    page, _ = written(one, unlike, out=tmp_path / "c.html")
    assert "different coupling groups" in page.text


def test_equal_names_of_runs_are_told_apart(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name / "run") for name in ("a", "b")]
    page, _ = written(*folders)
    assert (str(folders[1]), "accuracy") in page.values
    with pytest.raises(UsageError, match="named twice"):
        write_page([folders[0], folders[0]])


def _damage(run: Path, kind: str) -> None:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    broken: dict[str, Any] = {
        "report-list": ("report.json", []),
        "report-text": ("report.json", "{"),
        "report-no-rows": ("report.json", {**report, "rows": None}),
        "report-no-dense": ("report.json", {**report, "rows": report["rows"][1:]}),
        "report-word": ("report.json", {**report, "rows": [{**report["rows"][0], "accuracy": "high"}]}),
        "report-tuned": ("report.json", {**report, "finetuned": [{"name": "x"}]}),
        "timing": ("timing.json", {"rows": [{"name": "dense"}]}),
        "timing-list": ("timing.json", []),
        "sensitivity": ("sensitivity.json", {"version": 1, "complete": True, "probes": [{"group": "a"}]}),
        "history": ("finetune/x/history.jsonl", {"epoch": "one"}),
        "result": ("finetune/x/result.json", {"accuracy": 0.5}),
        "config": ("config.json", {}),
        "journal": ("episodes.jsonl", {"agent": "tpe"}),
    }
    name, content = broken[kind]
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text(to_line(content), encoding="utf-8")
    else:
        write_json_atomic(path, content)


@pytest.mark.parametrize(
    "kind",
    ["report-list", "report-text", "report-no-rows", "report-no-dense", "report-word", "report-tuned", "timing",
     "timing-list", "sensitivity", "history", "result", "config", "journal"],
)  # fmt: skip
def test_damage_is_one_sentence(run: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    _damage(run, kind)
    assert main(["report", str(run), "--no-time"]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert "Unexpected" not in said
    assert len(said.strip().splitlines()) == 1
    assert not (run / "report.html").exists()


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "page.html"
    assert main(["report", str(run), "--no-time", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "charts": []}
    assert out.is_file()
    assert main(["report", str(run), "--no-time", "--out", str(tmp_path / "page.pdf")]) == 2
    assert "must end in .html" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nothing"), "--no-time"]) == 2
    assert "There is no run in" in capsys.readouterr().err
    assert main(["report", str(run), "--no-time", "--sensitivity"]) == 2
    assert "was made from Python" in capsys.readouterr().err


def test_charts_stand_alone(run: Path, tmp_path: Path) -> None:
    tune(run, "$x_1$ \u6f22 <&'\"")
    other = make_run(tmp_path / "other", agent="ddpg")
    for folders in ([run], [run, other]):
        path, charts = write_page(folders, tmp_path / "p.html", svg=True)
        text = path.read_text(encoding="utf-8")
        assert len(charts) >= 3
        for chart in charts:
            assert chart.parent == tmp_path / "p"
            drawing = chart.read_text(encoding="utf-8")
            assert "var(" not in drawing
            assert "<style>" in drawing
            root = ElementTree.fromstring(drawing)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            on_page = re.search(rf'<figure id="{chart.stem}">.*?</figure>', text, flags=re.DOTALL)
            assert on_page is not None
            for mark in root.iter("{http://www.w3.org/2000/svg}path"):  # the same drawing and the same legend
                assert mark.get("d") in html.unescape(on_page[0])
            said = html.unescape(re.sub("<[^>]*>", "", on_page[0]))
            for label in root.iter("{http://www.w3.org/2000/svg}text"):
                assert "".join(label.itertext()) in said


def test_another_metric_has_its_name_unit_and_direction_everywhere(tmp_path: Path) -> None:
    errors = {"dense": 2.5, "uniform": 3.25, "shallow": 4.5, "deep": 5.5, "random": 3.5, "tpe": 3.75}
    options: dict[str, Any] = {"metric": "rmse", "maximize": False, "reward": "metric", "accuracy": errors}
    run = make_run(tmp_path / "run", images=None, **options)
    tune(run, "plain")
    other = make_run(tmp_path / "other", agent="ddpg", images=None, **options)
    for folders in ([run], [run, other]):
        path, _ = write_page(folders, tmp_path / "p.html")
        text = path.read_text(encoding="utf-8")
        text = html.unescape(re.sub("<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))
        assert "ccuracy" not in re.sub(r"search_accuracy|accuracy_se", "", text)
        assert "3.75" in text
        assert "375" not in text
        assert not re.search(r"\b(2\.5|3\.25|3\.75|5\.5) %", text)
    found = read_json(run / "report.json")
    assert found["metric"] == {"name": "rmse", "maximize": False, "share": False}
    assert "search rmse" in table(found)
    assert " acc" not in table(found)
    said = sentences(found)
    assert not any("accurac" in sentence for sentence in said)
    outcome, told = verdict(read_run(run))
    assert outcome == "open"  # errors are not known
    assert told[0].startswith("tpe is behind the best simple rule, uniform (3.75 against 3.25);")
