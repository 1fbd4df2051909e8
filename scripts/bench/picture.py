#!/usr/bin/python3 -IB
"""`make report-picture`: docs/drawings/report.png, the top of the report as a browser shows it.

    make report report-picture

Settings: REPORT=build/bench/report.html, OUT=docs/drawings/report.png, WIDTH=1280 and HEIGHT=1130 in pixels. It takes chromium
(scripts/install_packages.sh test); whatever the page writes to the browser's console is an error.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import settings  # noqa: E402

COLOURS = 128  # enough for lines and letters, and a third of the size


def screenshot(page, picture, width, height):
    """What chromium shows of a page, as PNG."""
    browser = shutil.which("chromium")
    if not browser:
        raise settings.Wrong("chromium is not installed: scripts/install_packages.sh test")
    with tempfile.TemporaryDirectory(prefix="hz3-picture-") as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
                   "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + profile,
                   "--window-size={},{}".format(width, height), "--screenshot=" + str(picture), page.resolve().as_uri()]
        try:
            done = subprocess.run(command, env={"PATH": "/usr/bin:/bin", "HOME": profile, "LC_ALL": "C.UTF-8"}, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise settings.Wrong("chromium was not done after 300 s") from None
    said = [line for line in done.stdout.splitlines() if "CONSOLE" in line]
    if done.returncode != 0 or said or not picture.is_file():
        raise settings.Wrong("chromium: {}".format((said or done.stdout.splitlines() or ["exit code {}".format(done.returncode)])[-1]))


def main():
    try:
        if settings.asked_for_help(__doc__):
            return 0
        page = pathlib.Path(os.environ.get("REPORT") or settings.RESULTS / "report.html")
        if not page.is_file():
            raise settings.Wrong("{}: there is no such file: make report".format(page))
        out = settings.output(settings.SRCTREE / "docs/drawings/report.png", ".png")
        width, height = settings.whole("WIDTH", 1280, 300, 10000), settings.whole("HEIGHT", 1130, 300, 20000)
        try:
            from PIL import Image
        except ImportError:
            raise settings.Wrong("matplotlib, which brings PIL, is not installed: scripts/install_packages.sh bench") from None
        with tempfile.TemporaryDirectory(prefix="hz3-picture-") as folder:
            raw = pathlib.Path(folder) / "page.png"
            screenshot(page, raw, width, height)
            with Image.open(raw) as picture:
                picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    except settings.Wrong as wrong:
        settings.fail(wrong)
    print("{} ({:.0f} KiB)".format(out, out.stat().st_size / 1024))
    return 0


if __name__ == "__main__":
    settings.run(main)
