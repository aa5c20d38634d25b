#!/usr/bin/env python3
"""The API page in a real browser: it reads the document, runs a prediction from a model's form, sends a request from an operation, and
nothing that its Content-Security-Policy forbids. Not part of the everyday tests; needs Debian's chromium and chromium-driver and says so
where they are not.
  tests/slow/docs_page.py [--screenshots FOLDER] [URL]     URL: of a page that is served already"""

import base64
import contextlib
import json
import pathlib
import shutil
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import troupe_test as t  # noqa: E402

if not shutil.which("chromium") or not shutil.which("chromedriver"):
    t.skip("no browser: apt-get install chromium chromium-driver")

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """The few commands of WebDriver (https://www.w3.org/TR/webdriver2/) that a page needs."""

    def __init__(self, stage, dark=False, size=(1280, 950)):
        port, = t.free_ports(1)
        self.driver = stage.start([shutil.which("chromedriver"), f"--port={port}"], f"chromedriver-{port}")
        self.url = f"http://127.0.0.1:{port}"
        t.wait_until(lambda: self.ask("GET", "/status")["ready"], "chromedriver is ready")
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={size[0]},{size[1]}"]
        words += ["--force-dark-mode"] if dark else []
        wanted = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
                  "goog:chromeOptions": {"args": words, "binary": shutil.which("chromium")}}
        self.url += "/session/" + self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, method=method), timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def script(self, text, *words):
        return self.ask("POST", "/execute/sync", {"script": text, "args": list(words)})

    def wait(self, text, what):
        return t.wait_until(lambda: self.script("return " + text), what, 60)

    def click(self, selector):
        found = self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.script("document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", selector)
        self.ask("POST", f"/element/{found}/click", {})

    def type(self, selector, text):
        found = self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.ask("POST", f"/element/{found}/clear", {})
        self.ask("POST", f"/element/{found}/value", {"text": text})

    def shot(self, folder, name):
        if folder:
            (folder / name).write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))
            print("screenshot:", folder / name)

    def complaints(self):
        return [line["message"] for line in self.ask("POST", "/se/log", {"type": "browser"}) if line["level"] == "SEVERE"]

    def close(self):
        with contextlib.suppress(OSError):
            self.ask("DELETE", "")


words = sys.argv[1:]
folder = None
if words[:1] == ["--screenshots"]:
    folder = pathlib.Path(words[1])
    folder.mkdir(parents=True, exist_ok=True)
    words = words[2:]

with t.Stage() as stage:
    if words:
        url = words[0]
    else:
        node = stage.troupe({"http": {}, "kafka": {"enabled": False}, "models": {"directory": str(t.ROOT / "models"), "default": "iris-classifier"}})
        node.wait_ready()
        url = f"http://127.0.0.1:{node.http_port}/"
    page = Browser(stage)
    page.open(url)
    page.wait("document.querySelectorAll('details.op').length > 20", "the operations are listed")
    assert page.script("return location.pathname").endswith("/docs"), "a browser at / is sent to the page"
    page.shot(folder, "page.png")

    # A prediction from a form.
    page.click(".model form button[type=submit]")
    page.wait("document.querySelector('.answer .big')", "a prediction")
    print("prediction:", page.script("return document.querySelector('.answer .big').textContent"))
    page.shot(folder, "prediction.png")

    # What the form has goes into the request: a value that is none is held back by the browser itself.
    first = ".model form .fields input"
    if page.script("return !!document.querySelector(arguments[0])", first):
        page.type(first, "5.5")
        assert page.script("return document.querySelector(arguments[0]).value", first) == "5.5"

    # By keyboard alone: an operation opens with Enter, is sent, and answers.
    page.script("document.querySelector('#infer summary').focus()")
    page.ask("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": [{"type": "keyDown", "value": "\ue007"}, {"type": "keyUp", "value": "\ue007"}]}]})
    page.wait("document.querySelector('#infer').open", "the operation opens with Enter")
    page.click("#infer button[type=submit]")
    page.wait("document.querySelector('#infer .reply .status')", "a reply")
    status = page.script("return document.querySelector('#infer .reply .status').textContent")
    print("infer:", status)
    assert status.startswith("200"), status
    page.script("document.querySelector('#infer').scrollIntoView({behavior: 'instant'})")
    page.shot(folder, "operation.png")

    # An error is shown as one.
    page.type("#infer input", "no such model")
    page.click("#infer button[type=submit]")
    page.wait("document.querySelector('#infer .status.bad')", "the error's status")

    # Every operation that only looks answers 200 with its examples; their schemas are written down.
    for operation in page.script("return [...document.querySelectorAll('details.op')].filter(e => e.querySelector('.verb.get')).map(e => e.id)"):
        page.script("document.getElementById(arguments[0]).open = true", operation)
        page.script("document.querySelector('#' + arguments[0] + ' form').requestSubmit()", operation)
        page.wait(f"document.querySelector('#{operation} .reply .status')", operation)
        status = page.script("return document.querySelector('#' + arguments[0] + ' .reply .status').textContent", operation)
        assert status.startswith("200"), (operation, status)
    for operation in ("score", "invocations", "repositoryIndex"):
        page.script("document.getElementById(arguments[0]).open = true; document.querySelector('#' + arguments[0] + ' form').requestSubmit()", operation)
        page.wait(f"document.querySelector('#{operation} .reply .status')", operation)
        status = page.script("return document.querySelector('#' + arguments[0] + ' .reply .status').textContent", operation)
        assert status.startswith("200"), (operation, status)
    unlabelled = page.script("return [...document.querySelectorAll('input, select, textarea, button')].filter(e => !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).length")
    assert unlabelled == 0, f"{unlabelled} fields without a label"
    complaints = [line for line in page.complaints() if "404" not in line]
    assert not complaints, complaints
    page.close()

    for name, dark, size in (("dark.png", True, (1280, 950)), ("narrow.png", False, (500, 950))):
        page = Browser(stage, dark, size)
        page.open(url)
        page.wait("document.querySelectorAll('details.op').length > 20", "the operations are listed")
        if dark:
            assert page.script("return document.documentElement.dataset.theme") == "dark"
        assert page.script("return document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
        page.script("document.querySelector('.model form').requestSubmit()")
        page.wait("document.querySelector('.answer .big')", "a prediction")
        page.shot(folder, name)
        page.close()
print("the API page works")
