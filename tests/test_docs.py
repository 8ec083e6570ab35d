"""Do the documents hold? Their commands are typed, the notebook is run, the site builds strictly and fetches nothing, and the
generated pages are those of today's parsers and docstrings."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import Checkout
from conftest import ROOT, native, unavailable
from deploybench import cli, paths

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
# Typed by no test, and why; that these parse is tested all the same. test_look.py runs the examples of reference-cli.md.
NOT_RUN = {
    r"^nox -s (tests|lint)|^make (tests|lint)": "tests do not run themselves",
    r"nox -s lock|VARIANT=|\bdownload\b": "needs the network",
    r"DEVICE=cuda|--device cuda": "needs a GPU",
    r"nox -s panel": "takes a quarter of an hour",
    r"^deploybench advise": "takes two minutes; test_advise.py does it in ten seconds",
    r"--tar\b": "packs for half a minute",
    r"fuzz|soak|-S cpp/examples|cmake --(install|build)|dist/hello": "test_fuzz.py, test_soak.py and test_library.py do it",
    r"--target throughput|--latency-bound": "test_load.py and test_bench.py do it, with less",
    r"package\.module|ARTIFACT|FOLDER": "has placeholders",
    r"^eval |^export ": "changes the shell, and nothing else",
    r"direct": "compiles for a minute; test_direct.py does it",
    r"^nox -s (bench|py_bench)": "make bench does both",
}
MORE = {" > bench.json": " --rounds 2 > bench.json"}  # an interval needs two rounds, and the copy makes one
GATE = "and that is no noise"  # ends what a gate says that refuses, which is this machine's affair
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the documents, once, in the order of the pages. A here-document is one command."""
    found = []
    for page in PAGES:
        if page.name == "reference-cli.md":
            continue
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            lines = iter(block.splitlines())
            for line in lines:
                if "<<'END'" in line:
                    line = "\n".join([line, *iter(lines.__next__, "END"), "END"])
                found.append(line if "\n" in line else re.sub(r"\s+#\s.*", "", line))
    return [line for line in dict.fromkeys(found) if line.strip() and not line.startswith("#")]


def reason(line: str) -> str:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), "")


@pytest.fixture(scope="module")
def with_a_model(checkout: Checkout) -> Checkout:
    """With what docs/own-model.md wants: the module as the page has it, its weights, its labels; and what is generated first."""
    page = (ROOT / "docs/own-model.md").read_text(encoding="utf-8")
    module, training = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (checkout.folder / "shop.py").write_text(module, encoding="utf-8")
    (checkout.folder / "shop.txt").write_text("cup\nspoon\nplate\n", encoding="utf-8")
    quietly = "from deploybench import models\n\nmodels.import_torchvision()\n"  # which torch warns of otherwise
    assert checkout.type(f"python -c {shlex.quote(quietly + training)}").returncode == 0
    assert checkout.type("deploybench generate --models resnet50 --routes eager,script,frozen").returncode == 0
    return checkout


@pytest.mark.parametrize("line", [line for line in commands() if not reason(line)])
def test_a_command_of_the_documents(line: str, with_a_model: Checkout) -> None:
    for end, longer in MORE.items():
        line = line.replace(end, longer)
    done = with_a_model.type(line)
    if GATE in line and done.stderr.strip().endswith(GATE):
        assert (done.returncode, done.stdout[:11]) == (1, "cpp/script "), done.stderr
        return
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("interval", "code"), [((0.95, 1.10), 0), ((0.80, 0.92), 0), ((0.57, 0.72), 1)])
def test_the_gate_heeds_the_interval(interval: tuple[float, float], code: int, tmp_path: Path) -> None:
    (line,) = (line for line in commands() if GATE in line)
    low, high = interval
    row = {"runner": "cpp/script", "speedup": (low + high) / 2, "speedup_low": low, "speedup_high": high}
    (tmp_path / "bench.json").write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().endswith(GATE if code else "")


@pytest.mark.parametrize("line", [line for line in commands() if reason(line)])
def test_a_command_that_is_not_run_parses(line: str) -> None:
    for one in re.split(r"&&|\|\||\|", line):
        understood(shlex.split(one, comments=True))


def test_every_reason_is_needed() -> None:
    for pattern in NOT_RUN:
        assert any(re.search(pattern, line) for line in commands()), pattern


def understood(words: list[str]) -> None:
    """Asserts that our own programs know these words: target, session, verb, flags and their values."""
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    if words[0] == "make":
        # the Makefile wants a file that is there
        done = subprocess.run(["make", "-n", "NOX=noxfile.py", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            understood(shlex.split(line))
    elif words[0] in ("nox", "noxfile.py"):
        sessions = words[words.index("-s") + 1 :]
        rest = sessions[sessions.index("--") + 1 :] if "--" in sessions else []
        for session in sessions[: sessions.index("--")] if "--" in sessions else sessions:
            body = re.search(rf"^def {session}\(session.*?(?=^@|\Z)", noxfile, re.MULTILINE | re.DOTALL)
            assert body, f"no session {session}"
            verb = re.search(r'deploybench\(session, "(\w+)", (?:.*)\*session\.posargs', body[0])
            if verb and rest:
                cli.parser({verb[1]}).parse_args([verb[1], *rest])
    elif words[0].endswith("deploybench"):
        cli.parser({words[1]}).parse_args(words[1:])
    elif words[0].startswith("cpp/build/bin/") and "soak" not in words[0]:
        text = native(Path(words[0]).name, "--help").stdout
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z][a-z0-9-]*", text))


def test_the_documents_are_plain_markdown() -> None:
    """They are read where no site generator is."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^(```+\{|:::)", text, re.MULTILINE), page


def test_the_notebook_runs(checkout: Checkout) -> None:
    committed = json.loads((ROOT / "docs/tutorial.ipynb").read_text(encoding="utf-8"))
    done = checkout.type("jupyter execute docs/tutorial.ipynb --output ../ran.ipynb")
    if "command not found" in done.stderr or "No such" in done.stderr:
        unavailable("no nbclient or ipykernel")
    assert done.returncode == 0, done.stderr
    ran = json.loads((checkout.folder / "ran.ipynb").read_text(encoding="utf-8"))
    for ours, theirs in zip(committed["cells"], ran["cells"], strict=True):
        kinds = [output["output_type"] for output in theirs.get("outputs", [])]
        assert [output["output_type"] for output in ours.get("outputs", [])] == kinds, ours["source"]
    text = json.dumps(committed)
    assert "random" in text
    assert str(Path.home()) not in text


def test_the_reference_is_up_to_date() -> None:
    native("infer", "--help")  # what is not built is not compared
    pages = runpy.run_path(str(ROOT / "docs/site/reference.py"))["pages"]()
    for name, text in pages.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"docs/{name} is of yesterday; nox -s docs"


def test_the_site_builds_and_fetches_nothing(tmp_path: Path) -> None:
    native("infer", "--help")
    command = [sys.executable, str(ROOT / "docs/site/build.py"), str(tmp_path)]
    before = {page: page.read_bytes() for page in ROOT.glob("docs/reference-*.md")}
    environment = {"PYTHONPATH": str(paths.ROOT / "python"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "No module named 'sphinx'" in done.stderr:
        unavailable("no sphinx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {page: page.read_bytes() for page in before}
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html", "reference-cli.html", "tutorial-notebook.html"} <= {
        page.name for page in pages
    }
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|img|iframe|source)[^>]*src="(https?:)?//', text), page
        assert not re.search(r'<link[^>]*rel="(stylesheet|preload|preconnect)"[^>]*href="(https?:)?//', text), page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
