"""Builds the site: `nox -s docs`, or build.py OUT. The pages are those of docs/, which read on their own; here they are copied,
links that lead out of docs/ are mended, the notebook becomes a page, and Sphinx does the rest, strictly."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import reference

ROOT = reference.DOCS.parent
SITE = Path(__file__).parent
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "readme.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)")


def build(out: Path) -> int:
    """The site in `out`; Sphinx's exit code, which is not 0 where a link is broken."""
    from sphinx.cmd.build import main

    with tempfile.TemporaryDirectory(prefix="deploybench-docs-") as folder:
        source = Path(folder)
        gather(source)
        strict = ["-n", "-W", "--keep-going", "-q"]
        return main(["-b", "html", *strict, "-c", str(SITE), "-d", str(source / ".doctrees"), str(source), str(out)])


def gather(source: Path) -> None:
    """All pages, as Sphinx is to see them, into `source`."""
    shutil.copytree(reference.DOCS, source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("site"))
    for name, page in reference.pages().items():
        (source / name).write_text(page, encoding="utf-8")
    for name, page in OUTSIDE.items():
        shutil.copy(ROOT / name, source / page)
    (source / "tutorial-notebook.md").write_text(
        notebook(json.loads((reference.DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))), encoding="utf-8"
    )
    for place in source.rglob("*.md"):
        mend(place, source)


def mend(place: Path, source: Path) -> None:
    """The links of the page at `place`, and the index's table of contents."""
    here = place.relative_to(source)
    origin = next((ROOT / name for name, copy in OUTSIDE.items() if copy == str(here)), reference.DOCS / here)
    text = place.read_text(encoding="utf-8")
    if here == Path("index.md"):
        text += contents(text)
    if here == Path("results/README.md"):
        text += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    text = re.sub(
        r"^#.*", lambda found: LINK.sub(r"\1", found[0]), text, flags=re.MULTILINE
    )  # Sphinx stops at a file there
    place.write_text(LINK.sub(lambda found: mended(found, origin, place, source), text), encoding="utf-8")


def mended(found: re.Match[str], origin: Path, page: Path, source: Path) -> str:
    """A link of a page that stood at `origin`: to the copy of its target, or the bare words where that is no page."""
    words, target, anchor = found[1], (origin.parent / found[2]).resolve(), found[3] or ""
    up = "../" * (len(page.relative_to(source).parts) - 1)
    if target.suffix == ".ipynb":
        return f"[{words}]({up}tutorial-notebook.md)"
    if target.parent == ROOT and target.name in OUTSIDE:
        return f"[{words}]({up}{OUTSIDE[target.name]}{anchor})"
    if target.is_relative_to(reference.DOCS):
        return f"[{words}]({up}{target.relative_to(reference.DOCS).as_posix()}{anchor})"
    return words if "`" in words else f"`{words}`"


def contents(index: str) -> str:
    """The site's table of contents: the links of each section of the index."""
    trees = []
    for section in index.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        linked = re.findall(r"^- \[([^\]]*)\]\(([^)]*)\)", body, re.MULTILINE)
        pages = [f"{words} <{page_of(target)}>" for words, target in linked]
        trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"]))
    return "\n\n" + "\n\n".join(trees) + "\n"


def page_of(target: str) -> str:
    """What Sphinx calls the page of a link in docs/index.md."""
    name = target.removeprefix("../")
    name = OUTSIDE.get(name, name) if target.startswith("../") else name
    return "tutorial-notebook" if name.endswith(".ipynb") else name.removesuffix(".md")


def notebook(content: dict[str, Any]) -> str:
    """A notebook as Markdown: its text, its code, and what the code printed."""
    parts = []
    for one in content["cells"]:
        text = "".join(one["source"]).strip()
        parts.append(text if one["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in one.get("outputs", []):
            said = output.get("text") or output.get("data", {}).get("text/plain", "")
            parts.append(f"```text\n{''.join(said).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    reference.write()
    sys.exit(build(Path(sys.argv[1])))
