"""The built site, page by page, and one headless browser to open it in."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("ADVREG_SITE", ROOT / "_build" / "html")).resolve()
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
NO_SITE = f"there is no built site in {SITE}: run `make book` first"


def pages() -> list[str]:
    """Every page of the site, relative to its root."""
    found = SITE.rglob("*.html") if (SITE / "index.html").is_file() else ()
    return sorted(p.relative_to(SITE).as_posix() for p in found if "_static" not in p.parts)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``address`` runs once for each page, all of a page in one process."""
    if "address" in metafunc.fixturenames:
        params = [
            pytest.param(page, id=page, marks=pytest.mark.xdist_group(page))
            for page in pages() or ["no-site"]
        ]
        metafunc.parametrize("address", params, indirect=True, scope="module")


def absent(reason: str) -> None:
    """Readers may do without; continuous integration may not."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def site() -> Path:
    """Folder of the built site."""
    if not pages():
        absent(NO_SITE)
    return SITE


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest, site: Path) -> str:
    """One page, relative to the root of the site."""
    return request.param


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    """Root address of the site, served on this machine."""
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Headless Chromium that cannot look up any other host."""
    if not shutil.which(CHROMIUM):
        absent(f"no browser at {CHROMIUM}: install chromium, or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    rules = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", f"--host-resolver-rules={rules}"],
        )
        yield chromium
        chromium.close()
