"""Debian's chromium without a window, spoken to over its debugging pipe: no library is needed.

Chromium reads NUL-separated JSON from file descriptor 3 and writes it to 4
(--remote-debugging-pipe, the DevTools protocol). A driver such as Selenium would be a second
program, whose version has to go with the browser's.
"""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from select import select
from time import monotonic

SECONDS = 60.0
_DESCRIPTORS = 'exec "$0" "$@" 3<&"$FROM_TEST" 4>&"$TO_TEST"'


def find_chromium():
    """The path of the browser, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Chromium:
    """A running browser with one tab."""

    def __init__(self, write, read):
        self._write, self._read = write, read
        self._count, self._buffer, self._session = 0, b"", None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send one command and wait for its answer; what else arrives is kept in `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, path, *, width, dark):
        """Show a file in a window of this width, in the light or the dark scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, script):
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def complaints(self):
        """What the console said and what was fetched beside the page itself."""
        self.evaluate("0")
        return [
            event["params"]
            for event in self.events
            if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled")
            or event["method"] == "Runtime.exceptionThrown"
            or (
                event["method"] == "Network.requestWillBeSent"
                and event["params"]["type"] != "Document"
                and not event["params"]["request"]["url"].startswith("data:")
            )
        ]

    def _receive(self):
        until = monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._read], [], [], max(0.0, until - monotonic()))
            assert ready, f"chromium did not answer within {SECONDS} s"
            part = os.read(self._read, 2**16)
            assert part, "chromium has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def chromium(binary):
    """A browser that ends with the block."""
    from_test, write = os.pipe()
    read, to_test = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless=new",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            *(["--no-sandbox"] if os.getuid() == 0 else []),
        ]
        process = subprocess.Popen(
            ["bash", "-c", _DESCRIPTORS, binary, *options],
            pass_fds=(from_test, to_test),
            env={**os.environ, "FROM_TEST": str(from_test), "TO_TEST": str(to_test)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(from_test)
        os.close(to_test)
        try:
            yield Chromium(write, read)
        finally:
            os.close(write)  # a browser whose pipe is closed ends by itself
            os.close(read)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
