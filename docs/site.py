"""MkDocs hook: adds files from outside docs/ to the site.

The README is the first page. Other files keep their paths from the root of the repository. So a
link that leaves docs/ needs one "../" less, and a link from the root's pages into docs/ no "docs/".
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINKED = ("LICENSE", "benchmarks/results/**/*", "examples/*", "examples/own_model/*.py")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, and the files that pages link to."""
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for path in (path for pattern in LINKED for path in ROOT.glob(pattern) if path.is_file()):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite links to the paths of the site."""
    source = page.file.src_uri
    if source in ROOT_PAGES.values() or source.startswith("examples/"):
        for name, target in ROOT_PAGES.items():
            markdown = markdown.replace(f"]({name})", f"]({target})")
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    steps = "../" * source.count("/")
    return re.sub(rf"\]\({re.escape(steps)}\.\./", f"]({steps}", markdown)
