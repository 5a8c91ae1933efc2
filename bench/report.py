"""Sizes and pictures of the report's pages.

    python -m bench.report FOLDER --pictures

Writes the pages of made-up experiments (those of the tests) and prints their sizes; with
`--pictures` a browser, Debian's chromium, takes a picture of each, in light and dark, 500 and 1,400
pixels wide.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from kinase.report import named, render, render_comparison
from tests.unit.report import samples, searches


def pages() -> dict[str, str]:
    """The pages by name."""
    digits = samples.digits()
    return {
        "digits": render(digits),
        "one": render(replace(samples.empty(), trials=digits.trials[:1])),
        "two": render(replace(samples.empty(), trials=digits.trials[:2])),
        "failed": render(samples.all_failed()),
        "comparison": render_comparison(named(searches.five_by_five())),
    }


def picture(files: list[Path]) -> None:
    """A picture of each page, in both schemes and widths."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for file in files:
            for width in (500, 1400):
                for scheme in ("light", "dark"):
                    size = {"width": width, "height": 900}
                    page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
                    page.goto(file.as_uri())
                    page.wait_for_timeout(1000)
                    name = f"{file.stem}-{width}-{scheme}.png"
                    page.screenshot(path=file.with_name(name), full_page=True)
                    page.close()
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, html in pages().items():
        file = (arguments.folder / f"{name}.html").resolve()
        file.write_text(html, encoding="utf-8")
        files.append(file)
        print(f"{name}: {file.stat().st_size:,} bytes", flush=True)
    if arguments.pictures:
        picture(files)


if __name__ == "__main__":
    main()
