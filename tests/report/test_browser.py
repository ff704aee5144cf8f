"""The page in Chromium, as wide as a phone and as a desktop."""

import json
import re
import shutil
import subprocess

import pytest
from PIL import Image
from run_factory import scores, write_run

from ganlab.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")

MEASURE = """<script>
const inside = e => { const b = e.closest(".box"); return b && getComputedStyle(b).overflowX === "auto"; };
onload = () => parent.postMessage(JSON.stringify({
  inner: innerWidth,
  page: document.documentElement.scrollWidth,
  broken: [...document.images].filter(i => !(i.complete && i.naturalWidth > 20)).length,
  images: document.images.length,
  outside: [...document.querySelectorAll("body *")]
    .filter(e => !inside(e) && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80)),
  small: [...document.querySelectorAll("td, th, p, figcaption")]
    .filter(e => parseFloat(getComputedStyle(e).fontSize) < 11).length,
}), "*");
</script></body>"""
# Chromium's own window is never narrower than 500 pixels; a frame in it is.
FRAME = """<title></title><script>onmessage = event => document.title = event.data</script>
<iframe src="measured.html" style="border: 0; width: {width}px; height: 2000px"></iframe>"""


def browse(*arguments: str) -> str:
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Long names, many columns, failures, two protocols, pictures."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        for loss in ("minimax", "ns"):
            evaluations = [scores(3, 0.9), scores(8 if seed < 3 else 0, 0.2)]
            write_run(folder / f"{loss}{seed}", evaluations, loss=loss, seed=seed, pictures=True)
        long = {"a_rather_long_key_of_the_regularizer": {"and_its_weight": 0.1 + 1e-9}}
        write_run(folder / f"long{seed}", evaluations, seed=seed, regularizers=long, pictures=True)
    write_run(folder / "failed", None, loss="wgan", error="x" * 300)
    write_run(folder / "other", [scores(8, 0.1)], loss="ls", ema=0)
    write_report([folder])
    return folder / "report.html"


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_overflows_and_pictures_load(page, width):
    measured = page.with_name("measured.html")
    measured.write_text(page.read_text().replace("</body>", MEASURE))
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width))
    dom = browse("--dump-dom", "--virtual-time-budget=20000", "--window-size=1400,2100", frame.as_uri())
    measures = json.loads(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1].replace("&lt;", "<").replace("&gt;", ">"))
    assert measures["inner"] == width
    assert measures["page"] <= width and measures["outside"] == []
    assert measures["images"] >= 10 and measures["broken"] == 0
    assert measures["small"] == 0


@pytest.mark.parametrize("width", [400, 1200])
def test_text_is_dark_on_white(page, width, tmp_path):
    shot = tmp_path / "shot.png"
    browse(f"--screenshot={shot}", f"--window-size={width},1600", page.as_uri())
    with Image.open(shot) as image:
        gray = image.convert("L")
    assert gray.size == (width, 1600)
    shades = gray.histogram()
    assert sum(shades[250:]) > 0.6 * sum(shades)
    assert sum(shades[:90]) > 0.01 * sum(shades)


def test_print(page, tmp_path):
    pdf = tmp_path / "page.pdf"
    browse(f"--print-to-pdf={pdf}", "--no-pdf-header-footer", page.as_uri())
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") + content.count(b"/Type/Page\n") >= 2
