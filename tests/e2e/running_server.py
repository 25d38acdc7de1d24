# SPDX-License-Identifier: Apache-2.0
"""A running `puna serve`, for the tests that talk to it. PUNA is the program's path."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.parse

PUNA = os.environ["PUNA"]
# What a sanitizer says of a server that went on, or of one that has ended, when the answers are read and the exit code is not.
SANITIZER = re.compile(r"(Address|Leak|Thread)Sanitizer: |: runtime error: ")
# A function whose call is short whatever the model would like to say: a free text that it is made to write may have no end.
SHORT_CALL = {"name": "pick", "description": "Picks a city", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}}


def is_sanitized(sign=b"__ubsan_handle"):
    with open(PUNA, "rb") as program:
        return sign in program.read()


# Seconds until an answer is held to be lost. Under AddressSanitizer or ThreadSanitizer everything takes several times as long.
PATIENCE = 300 if is_sanitized(b"san_init") else 60


class Response:
    """A whole answer: status, headers (names in lower case), body as bytes, and as JSON."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class RunningServer:
    """`with RunningServer("nano", "--parallel", "4") as server: server.get("/health")`. Without a model it serves nano. Its prompts
    mention one date, whenever it runs: a small model's words depend on it."""

    def __init__(self, *arguments, env=None, timeout=PATIENCE):
        self.timeout = timeout
        self._log = tempfile.TemporaryFile()
        models = [] if any(not word.startswith("-") for word in arguments[:1]) else ["nano"]
        port = [] if "--port" in arguments or "--unix" in arguments or "--config" in arguments else ["--port", "0"]
        date = [] if "--date" in arguments else ["--date", "26 Nov 2026"]
        full_env = {name: value for name, value in os.environ.items() if not name.startswith("PUNA_")}
        full_env.update(env or {})
        self.process = subprocess.Popen([PUNA, "serve", *models, *port, *date, *arguments], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self._log, env=full_env)
        self.url = self.process.stdout.readline().decode().strip()
        if not self.url:
            self.process.wait(timeout)
            self.stop()
            raise RuntimeError("puna serve ended with exit code %d: %s" % (self.process.returncode, self.log()))
        address = urllib.parse.urlsplit(self.url)
        self.host, self.port = address.hostname, address.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # What the server said on standard error so far.
    def log(self):
        if not self._log.closed:
            self._log.seek(0)
            self._said = self._log.read().decode(errors="replace")
        return self._said

    # SIGTERM, and waits for its end. The exit code.
    def stop(self, number=signal.SIGTERM, timeout=PATIENCE):
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self.process.stdout.close()
        if SANITIZER.search(self.log()):
            raise AssertionError(self.log())
        self._log.close()
        return self.process.returncode

    def connection(self, timeout=None):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout or self.timeout)

    # A request whose answer is read whole. A body that is no text or bytes is sent as JSON.
    def request(self, method, path, body=None, headers=None, timeout=None):
        connection = self.connection(timeout)
        try:
            self._send(connection, method, path, body, headers)
            answer = connection.getresponse()
            return Response(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, None, headers)

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    # Iterates over the events of a streamed answer: the JSON behind "data: ", and "[DONE]" as text. Named events (Anthropic's,
    # the Responses API's) are (name, JSON) pairs.
    def stream(self, path, body, headers=None):
        connection = self.connection()
        try:
            self._send(connection, "POST", path, body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise AssertionError("status %d: %s" % (answer.status, answer.read()))
            name = None
            for line in answer:
                line = line.rstrip(b"\n").decode()
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data = line[6:] if line == "data: [DONE]" else json.loads(line[6:])
                    yield data if name is None else (name, data)
                    name = None
        finally:
            connection.close()

    # A streamed answer's bytes, as they came.
    def stream_bytes(self, path, body, headers=None):
        response = self.post(path, body, headers)
        if response.status != 200:
            raise AssertionError("status %d: %s" % (response.status, response.body))
        return response.body

    # Bytes to the socket as they are, and everything that comes back until the server closes or nothing comes for `quiet` seconds.
    def raw(self, data, quiet=5.0):
        with socket.create_connection((self.host, self.port), timeout=quiet) as connection:
            connection.sendall(data)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except (socket.timeout, ConnectionResetError):
                pass
            return received

    # The value of a metric, summed over its labels.
    def metric(self, name, headers=None):
        text = self.get("/metrics", headers).text
        values = re.findall(r"^%s(?:\{[^}]*\})? (\S+)$" % re.escape(name), text, re.MULTILINE)
        if not values and "# TYPE %s " % name not in text:
            raise KeyError(name)
        return sum(float(value) for value in values)

    @staticmethod
    def _send(connection, method, path, body, headers):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body.encode() if isinstance(body, str) else body, headers)


# Runs `call(i)` for i below `count`, each on a thread of its own; the results, or the first exception.
def in_parallel(count, call):
    results, errors = [None] * count, []

    def run(i):
        try:
            results[i] = call(i)
        except Exception as error:  # told to the caller
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
