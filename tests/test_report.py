"""The report page: what is on it, that it is safe and self-contained, and that it works in a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dgm.cli import report
from dgm.configs import ConfigError
from dgm.figures.report import gallery, page
from dgm.runs import Run, find
from dgm.studies import tidy

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no browser: install one with `apt-get install chromium` (or google-chrome)"
)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --virtual-time-budget=3000 --window-size=1280,2400"
EVIL = "<script>document.title='owned'</script>"


def fake(folder: Path, beta: float, latent: int, seed: int, note: str = "", state: str = "done") -> Run:
    (folder / "samples").mkdir(parents=True)
    (folder / "figures").mkdir()
    config = {"seed": seed, "note": note, "loss": {"beta": beta}, "model": {"latent": latent}}
    words = ["model=beta_vae", f"loss.beta={beta}", f"model.latent={latent}", f"note={note}", f"seed={seed}"]
    origin = {"overrides": words, "versions": {"torch": "2.15.0"}, "commit": "abc", "seconds": 9}
    why = "GuardError: the loss is not a number" if state == "failed" else ""
    kl, elbo = 20 / beta + seed, -80.0 - 3 * beta - latent / 10 - seed
    values = {"elbo": elbo, "reconstruction": -elbo - kl, "kl": kl, "fid_classifier": 10 * beta + seed}
    measured = {"likelihood": {"values": values, "protocol": {"n": 360}}} if state == "done" else {}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "provenance.json").write_text(json.dumps(origin))
    (folder / "state.json").write_text(json.dumps({"state": state, "why": why}))
    (folder / "result.json").write_text(json.dumps(measured))
    rows = [f"{step},{step // 10},val/elbo,{elbo - 90 / (1 + step)}\n" for step in range(0, 200, 10)]
    (folder / "metrics.csv").write_text("step,epoch,name,value\n" + "".join(rows))
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)
    for name in ("samples/samples_0000100", "samples/samples_0000200", "figures/traversal"):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return Run(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("study")
    for beta in (1, 2, 8):
        for latent in (2, 10):
            for seed in (0, 1):
                name = f"beta={beta},latent={latent},seed={seed}-{beta}{latent}{seed}"
                fake(root / name, beta, latent, seed)
    fake(root / "broken-0", 4, 2, 0, EVIL, "failed")
    return root


@pytest.fixture(scope="module")
def html(study) -> str:
    return page(find(study), "my <study>")


class Tags(HTMLParser):
    """All tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def test_page_is_self_contained(html):
    for tag, attributes in Tags(html).found:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            link = attributes.get(name) or "#"
            assert link.startswith(("#", "data:image/png;base64,")), (tag, name, link[:60])
    assert not re.search(r"@import|url\((?!#)", html)
    assert "default-src 'none'" in html


def test_what_a_user_wrote_is_text(html):
    assert EVIL not in html
    assert "&lt;script&gt;document.title" in html
    assert "<title>my &lt;study&gt;" in html
    assert len(Tags(html).named("script")) == 1


def test_what_a_user_wrote_is_text_in_plots_too(tmp_path):
    notes = [EVIL, "$\\alpha", "</svg><b onload='x'>"]
    made = [fake(tmp_path / f"{i}{beta}", beta, 2, 0, n) for i, n in enumerate(notes) for beta in (1, 4)]
    text = page(made, "evil", tmp_path)
    assert EVIL not in text and "onload='x'>" not in text
    assert len(Tags(text).named("script")) == 1
    assert text.count("&lt;script&gt;") > 8


def test_ids_are_unique_and_links_lead_somewhere(html):
    tags = Tags(html).found
    ids = [attributes["id"] for _, attributes in tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [a.get("href") or a.get("xlink:href") or "#" for _, a in tags]
    assert {link[1:] for link in links if len(link) > 1 and link[0] == "#"} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_parts_of_the_page(html):
    text = re.sub(r"<[^>]+>", " ", html)
    assert "13 runs" in text and "12 done" in text and "1 failed" in text
    assert "GuardError: the loss is not a number" in text
    assert "-83.70 ± 0.71" in text  # beta 1, latent 2: seeds -83.2 and -84.2
    titles = [t.strip() for t in re.findall(r"<h2[^>]*>(.*?)</h2>", html)]
    swept = ["What loss.beta does", "What model.latent does"]
    middle = [*swept, "Rate and distortion", "Learning curves", "Pictures"]
    assert titles == ["Mean and spread over seeds", *middle, "Runs", "Provenance"]
    assert html.count('<svg role="img" aria-label=') == 4 + 4 + 1 + 1
    assert 'lang="en"' in html
    assert all(image.get("alt") for image in Tags(html).named("img"))
    assert len(Tags(html).named("details")) == 13


def test_gallery_takes_the_latest_and_one_of_each_setting_first(study, monkeypatch):
    runs = find(study)
    monkeypatch.setattr("dgm.figures.report.PICTURED", 7)
    cards = gallery(tidy(runs), runs)
    assert len(cards) == 7
    assert all("seed = 0" in card["caption"] for card in cards)
    assert [p["name"] for p in cards[0]["pictures"]] == ["samples", "traversal"]


def test_a_damaged_picture_is_left_out(tmp_path):
    run = fake(tmp_path / "a", 1, 2, 0)
    run.path("samples", "samples_0000300.png").write_bytes(b"not a png")
    assert [p["name"] for p in gallery(tidy([run]), [run])[0]["pictures"]] == ["traversal"]


@pytest.mark.parametrize("state", ["failed", "done"])
def test_one_run_makes_a_page_too(tmp_path, state):
    text = page([fake(tmp_path / "a", 1, 2, 0, state=state)], "one")
    assert "1 run " in text and ("Nothing was measured" in text) == (state == "failed")


def test_figures_of_the_whole_study_are_shown(tmp_path):
    run = fake(tmp_path / "a", 1, 2, 0)
    (tmp_path / "figures").mkdir()
    Image.new("L", (30, 20)).save(tmp_path / "figures" / "rate_distortion.png")
    assert 'alt="rate distortion of all runs"' in page([run], "one", tmp_path)


def test_command_writes_where_asked(study, tmp_path, capsys):
    assert report.command([str(study), "--out", str(tmp_path / "deep" / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_text().startswith("<!doctype html>")
    with pytest.raises(ConfigError, match="is a folder"):
        report.command([str(study), "--out", str(tmp_path)])


def browse(path: Path, hash: str, *flags: str) -> str:
    """Open the page in a browser of its own and return what it prints."""
    command = [str(BROWSER), *FLAGS.split(), f"--user-data-dir={path.parent / 'profile'}", *flags]
    done = subprocess.run([*command, f"{path.as_uri()}{hash}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(dom: str) -> list[tuple[str, bool]]:
    """Name and visibility of the rows of the table of runs, as they stand."""
    table = dom[dom.index('<table id="runs"') :]
    found = re.findall(r"<tr data-run=[^>]*>\s*<th[^>]*>", table[: table.index("</table>")])
    return [(row.split('data-value="')[1].split('"')[0], " hidden" not in row.split(">")[0]) for row in found]


@needs_browser
def test_table_sorts_in_a_browser(html, study, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html)
    values = {run.folder.name: run.values.get("elbo") for run in find(study)}
    measured = sorted((name for name in values if values[name] is not None), key=lambda name: values[name])
    dom = browse(path, "#sort=elbo", "--dump-dom")
    assert [name for name, _ in rows(dom)] == [*measured, "broken-0"]
    assert len(re.findall('aria-sort="ascending"', dom)) == 1
    assert "<title>my &lt;study&gt;" in dom
    dom = browse(path, "#sort=-elbo", "--dump-dom")
    assert [name for name, _ in rows(dom)] == [*measured[::-1], "broken-0"]


@needs_browser
def test_table_filters_in_a_browser(html, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html)
    dom = browse(path, "#filter=loss.beta%3D8+seed%3D1", "--dump-dom")
    assert sum(seen for _, seen in rows(dom)) == 2
    assert "2 of 13 runs" in dom


@needs_browser
def test_screenshot_is_a_page(html, tmp_path):
    path, picture = tmp_path / "report.html", tmp_path / "page.png"
    path.write_text(html)
    browse(path, "", f"--screenshot={picture}")
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (2400, 1280)
    assert (pixels < 128).mean() > 0.002  # there is ink,
    assert pixels[1200:].std() > 10  # also in the lower half
