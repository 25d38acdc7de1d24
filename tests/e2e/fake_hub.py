# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Hugging Face hub on 127.0.0.1, for tests: the API, resolve with ETags and X-Linked headers, large files
redirected to a second server on another port, ranges, gated and missing repositories, and faults on demand."""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Repository:
    def __init__(self, files, gated=False, lfs=(".safetensors", ".gguf")):
        self.files = files      # path -> bytes
        self.gated = gated
        self.lfs = lfs

    def is_large(self, path):
        return path.endswith(tuple(self.lfs))

    def etag(self, path):
        data = self.files[path]
        if self.is_large(path):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Faults:
    """What goes wrong, by file name."""

    def __init__(self):
        self.drop_after = {}     # path -> list of byte counts: each download in turn ends there
        self.errors = {}         # path or "api" -> list of statuses: each request in turn gets one
        self.corrupt = set()     # paths whose bytes are changed on the way
        self.ignore_range = set()
        self.hold_after = {}     # path -> byte count: downloads stop there and wait, as long as it stands here
        self.held = threading.Event()


class Hub:
    def __init__(self, repositories, token="hf_secret"):
        self.repositories = repositories
        self.token = token
        self.faults = Faults()
        self.requests = []       # (server, method, path, headers)
        self.revisions = {"main": COMMIT, "refs/pr/1": COMMIT, COMMIT: COMMIT}
        self.cdn = self._serve("cdn", CdnHandler)
        self.server = self._serve("hub", HubHandler)
        self.endpoint = "http://127.0.0.1:%d" % self.server.server_port
        self.cdn_endpoint = "http://localhost:%d" % self.cdn.server_port

    def _serve(self, name, handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.hub, server.label = self, name
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def close(self):
        for server in (self.server, self.cdn):
            server.shutdown()
            server.server_close()

    def seen(self, label, method=None, part=""):
        return [r for r in self.requests if r[0] == label and (method is None or r[1] == method) and part in r[2]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def setup(self):
        super().setup()
        self.hub = self.server.hub

    def note(self):
        self.hub.requests.append((self.server.label, self.command, self.path, dict(self.headers)))

    def reply(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def planned_error(self, key):
        queue = self.hub.faults.errors.get(key)
        if not queue:
            return False
        self.reply(queue.pop(0))
        return True

    def send_bytes(self, path, data, headers):
        faults, status, start = self.hub.faults, 200, 0
        if path in faults.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and path not in faults.ignore_range:
            start = int(match.group(1))
            if start >= len(data):
                return self.reply(416, headers=[("Content-Range", "bytes */%d" % len(data))])
            status = 206
            headers = headers + [("Content-Range", "bytes %d-%d/%d" % (start, len(data) - 1, len(data)))]
        body = data[start:]
        self.send_response(status)
        for name, value in headers + [("Content-Length", str(len(body))), ("Accept-Ranges", "bytes")]:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if path in faults.hold_after:
            self.wfile.write(body[:faults.hold_after[path]])
            self.wfile.flush()
            faults.held.set()
            while path in faults.hold_after:
                time.sleep(0.01)
            self.close_connection = True
            return None
        queue = faults.drop_after.get(path)
        if queue:
            self.wfile.write(body[:queue.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return None
        self.wfile.write(body)
        return None


class HubHandler(Handler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.note()
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", self.path)
        if match:
            return self.api(match.group(1), match.group(2).replace("%2F", "/"))
        match = re.fullmatch(r"/(?:moved/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if match:
            return self.resolve(*match.groups())
        return self.reply(404)

    def allowed(self, name):
        repository = self.hub.repositories.get(name)
        token = self.headers.get("Authorization", "")
        if repository is None:
            self.reply(404 if token else 401, headers=[("X-Error-Code", "RepoNotFound")])
        elif repository.gated and token != "Bearer " + self.hub.token:
            self.reply(403 if token else 401, headers=[("X-Error-Code", "GatedRepo")])
        else:
            return repository
        return None

    def api(self, name, revision):
        if self.planned_error("api"):
            return None
        repository = self.allowed(name)
        if repository is None:
            return None
        commit = self.hub.revisions.get(revision)
        if commit is None:
            return self.reply(404, headers=[("X-Error-Code", "RevisionNotFound")])
        body = {"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in repository.files]}
        return self.reply(200, json.dumps(body).encode(), [("Content-Type", "application/json")])

    def resolve(self, name, commit, path):
        if self.command == "GET" and self.planned_error(path):
            return None
        repository = self.allowed(name)
        if repository is None:
            return None
        if path not in repository.files:
            return self.reply(404, headers=[("X-Error-Code", "EntryNotFound")])
        data = repository.files[path]
        headers = [("X-Repo-Commit", commit)]
        if repository.is_large(path):
            location = "%s/%s/%s" % (self.hub.cdn_endpoint, name, path)
            headers += [("X-Linked-Etag", '"%s"' % repository.etag(path)), ("X-Linked-Size", str(len(data)))]
            return self.reply(302, headers=headers + [("Location", location)])
        if not self.path.startswith("/moved/"):  # the hub sends small files through a relative redirect
            return self.reply(307, headers=headers + [("Location", "/moved" + self.path)])
        return self.send_bytes(path, data, headers + [("ETag", 'W/"%s"' % repository.etag(path))])


class CdnHandler(Handler):
    def do_GET(self):
        self.note()
        _, owner, name, path = self.path.split("/", 3)
        if self.planned_error(path):
            return None
        return self.send_bytes(path, self.hub.repositories[owner + "/" + name].files[path], [("ETag", '"other"')])
