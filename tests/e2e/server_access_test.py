# SPDX-License-Identifier: Apache-2.0
"""Who may ask `puna serve` for what: keys on all routes and spellings of paths, hosts, origins, pages from elsewhere, limits."""

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest

from running_server import RunningServer
from shapes import check_shape

MANAGE, INFER = "manage-key-0123456789", "infer-key-9876543210abc"
OPEN = {("GET", "/"), ("GET", "/health"), ("GET", "/ready"), ("HEAD", "/health")}
MANAGED = {("GET", "/puna/runs"), ("GET", "/puna/runs/x/metrics"), ("GET", "/puna/runs/x/recipe"), ("GET", "/puna/votes"),
           ("POST", "/puna/stop"), ("POST", "/puna/unload"), ("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/copy")}
ROUTES = sorted(OPEN | MANAGED | {
    ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/v1/models/nano"), ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"), ("POST", "/tokenize"), ("POST", "/detokenize"), ("POST", "/apply-template"), ("GET", "/puna/props"),
    ("POST", "/puna/votes"), ("POST", "/v1/embeddings"), ("POST", "/v1/responses"), ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/rerank"), ("POST", "/api/chat"), ("POST", "/api/generate"),
    ("POST", "/api/embed"), ("POST", "/api/embeddings"), ("POST", "/rerank"), ("POST", "/v2/rerank"),
    ("POST", "/api/show"), ("GET", "/api/tags"), ("GET", "/api/ps"), ("GET", "/api/version"),
    ("GET", "/openapi.json"), ("GET", "/nothing/here"), ("PUT", "/v1/models")})


# Twelve ways to write a path that some server, proxy or file system takes for the same.
def spellings(path):
    last = path[-1]
    return [path, "/" + path, path + "/", path + "//", "/." + path, "/x/.." + path, path.upper(), path + ";a=b", path + "%00",
            path[:-1] + "%%%02x" % ord(last), path.replace("/", "\\"), "http://127.0.0.1" + path, path + "?key=" + MANAGE]


class AccessTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".keys", delete=False) as file:
            file.write("# keys\nmanage %s\ninfer %s\n" % (MANAGE, INFER))
        cls.key_file = file.name
        cls.server = RunningServer("nano", "--api-key-file", file.name)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        os.unlink(cls.key_file)

    def ask(self, connection, method, path, headers):
        body = b"" if method in ("GET", "HEAD") else b"{}"
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Connection")

    # One connection for many requests; a refusal may close it.
    def statuses(self, headers, asked):
        connection, found = self.server.connection(), []
        for method, path in asked:
            status, body, closing = self.ask(connection, method, path, headers)
            found.append((method, path, status, body))
            if closing == "close":
                connection.close()
        connection.close()
        return found

    def test_a_key_for_asking_neither_loads_nor_unloads_nor_pins(self):
        asks, manages = {"Authorization": "Bearer " + INFER}, {"Authorization": "Bearer " + MANAGE}
        expires = lambda: self.server.get("/api/ps", manages).json["models"][0]["expires_at"]
        body = {"model": "nano", "prompt": "a", "stream": False, "options": {"num_predict": 1}, "keep_alive": "10m"}
        self.assertEqual(self.server.post("/api/generate", body, asks).status, 200)
        before = expires()
        self.assertTrue(before.startswith("9999"), before)
        for path in ("/api/chat", "/api/generate"):
            for keep_alive in (0, -1):
                refused = self.server.post(path, {"model": "nano", "keep_alive": keep_alive, "stream": False}, asks)
                self.assertEqual(refused.status, 403, refused.text)
        self.assertEqual(expires(), before)
        self.assertEqual(self.server.post("/api/generate", {"model": "nano", "keep_alive": 0, "stream": False}, manages).status, 200)
        self.assertEqual(self.server.get("/api/ps", manages).json["models"], [])

    def test_no_route_and_no_spelling_without_a_key(self):
        wrong = [{}, {"Authorization": "Bearer " + "x" * 21}, {"Authorization": "Bearer " + MANAGE[:-1]},
                 {"Authorization": "Bearer " + MANAGE + "x"}, {"x-api-key": MANAGE[:-1]}, {"Authorization": "Basic " + MANAGE},
                 {"Authorization": "Bearer"}, {"Authorization": MANAGE}]
        asked = [(method, path) for method, route in ROUTES for path in spellings(route)]
        self.assertGreaterEqual(len(asked), 12 * len(ROUTES))
        for headers in wrong[:3]:
            for method, path, status, _ in self.statuses(headers, asked):
                exact = (method, path.split("?")[0]) in OPEN
                self.assertTrue(status == 200 if exact else status in (400, 401), (headers, method, path, status))
        for headers in wrong[3:]:
            for method, path, status, _ in self.statuses(headers, ROUTES):
                self.assertEqual(status, 200 if (method, path) in OPEN else 401, (headers, method, path))

    def test_no_route_is_forgotten_here(self):
        paths = self.server.get("/openapi.json", {"x-api-key": INFER}).json["paths"]
        there = {(method.upper(), path) for path, methods in paths.items() for method in methods}
        tried = {(method, path.replace("/x/", "/{name}/").replace("/models/nano", "/models/{name}")) for method, path in ROUTES}
        self.assertLessEqual(there, tried)

    # Nor does an answer repeat it, or the log.
    def test_a_key_is_never_shown(self):
        for headers in ({"Authorization": "Bearer " + MANAGE}, {"x-api-key": INFER}, {"Authorization": "Basic " + MANAGE},
                        {"Authorization": "Bearer " + MANAGE + "x"}):
            asked = [(method, path) for method, path in ROUTES if path != "/puna/stop" and method != "HEAD"]
            for method, path, _, body in self.statuses(headers, asked):
                for key in (MANAGE, INFER):
                    self.assertNotIn(key.encode(), body, (method, path))
                    self.assertNotIn(key.encode()[:8], body, (method, path))
        for key in (MANAGE, INFER):
            self.assertNotIn(key[:8], self.server.log())

    def test_the_right_key_and_the_right_spelling(self):
        for headers in ({"Authorization": "Bearer " + INFER}, {"x-api-key": INFER}, {"authorization": "bearer " + INFER}):
            for method, path, status, _ in self.statuses(headers, [route for route in ROUTES if route not in MANAGED]):
                self.assertNotIn(status, (401, 403), (headers, method, path))
        for method, path, status, body in self.statuses({"x-api-key": INFER}, sorted(MANAGED)):
            self.assertIn(status, (403, 404), (method, path))  # 404: a route that is not there
        for method, route in ROUTES:
            if method == "POST" and route == "/puna/stop" or route in ("/v1/models/nano", "/"):
                continue  # it would stop; any name may stand there; the page's spellings are other paths
            for _, path, status, _ in self.statuses({"x-api-key": MANAGE}, [(method, path) for path in spellings(route)[1:-1]]):
                self.assertIn(status, (400, 404, 405), (method, path))

    def test_a_refusal_names_no_key_and_has_its_familys_shape(self):
        response = self.server.get("/v1/models", {"Authorization": "Bearer wrong-key-0123456789"})
        self.assertEqual(response.status, 401)
        self.assertEqual(response.headers["www-authenticate"], "Bearer")
        self.assertEqual(check_shape(response.json, "error")["error"]["code"], "invalid_api_key")
        self.assertNotIn("wrong-key", response.text)
        check_shape(self.server.post("/v1/messages", {}).json, "message_error")
        check_shape(self.server.post("/api/chat", {}).json, "ollama_error")
        self.assertNotIn(MANAGE, self.server.log())

    def test_a_key_is_asked_for_before_the_body(self):
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
        self.assertTrue(self.server.raw(head).startswith(b"HTTP/1.1 401 "))

    def test_hosts(self):
        for host in ("localhost", "127.0.0.1", "127.0.0.1:%d" % self.server.port, "[::1]", "LOCALHOST:80", "127.8.9.1"):
            self.assertEqual(self.server.get("/health", {"Host": host}).status, 200, host)
        for host in ("example.org", "127.0.0.1.example.org", "localhost.example.org", "evil:%d" % self.server.port, "0.0.0.0", "",
                     "127.0.0.1@example.org", "[::1].example.org", "localhost:80@example.org", "2130706433"):
            response = self.server.get("/v1/models", {"Host": host, "x-api-key": MANAGE})
            self.assertIn(response.status, (400, 403), host)
        self.assertEqual(self.server.get("/health", {"Host": "example.org"}).json["error"]["code"], "host_not_allowed")

    def test_origins(self):
        key = {"x-api-key": MANAGE}
        own = "http://127.0.0.1:%d" % self.server.port
        for origin in (own, "http://localhost:3000", "https://localhost", "http://127.0.0.1:5173"):
            response = self.server.get("/v1/models", {**key, "Origin": origin})
            self.assertEqual((response.status, response.headers.get("access-control-allow-origin")), (200, origin))
            self.assertNotIn("access-control-allow-credentials", response.headers)
            self.assertIn("Origin", response.headers["vary"])
        for origin in ("https://example.org", "http://localhost.example.org", "null", "file://", "http://127.0.0.1.example.org",
                       "http://localhost@example.org", "https://example.org/#localhost", "x"):
            response = self.server.get("/v1/models", {**key, "Origin": origin})
            self.assertEqual(response.status, 403, origin)
            self.assertNotIn("access-control-allow-origin", response.headers)

    def test_preflight(self):
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
        response = self.server.request("OPTIONS", "/v1/chat/completions", None, {**asks, "Origin": "http://localhost:3000"})
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual(response.headers["access-control-allow-origin"], "http://localhost:3000")
        self.assertIn("POST", response.headers["access-control-allow-methods"])
        self.assertIn("authorization", response.headers["access-control-allow-headers"].lower())
        refused = self.server.request("OPTIONS", "/v1/chat/completions", None, {**asks, "Origin": "https://example.org"})
        self.assertEqual(refused.status, 403)
        self.assertNotIn("access-control-allow-origin", refused.headers)

    def test_methods_and_heads(self):
        response = self.server.request("PUT", "/v1/models", b"", {"x-api-key": INFER})
        self.assertEqual((response.status, response.headers["allow"]), (405, "GET"))
        head = self.server.request("HEAD", "/v1/models", None, {"x-api-key": INFER})
        self.assertEqual((head.status, head.body), (200, b""))
        for name in ("x-request-id", "x-content-type-options", "cache-control"):
            self.assertIn(name, head.headers)


class OpenToSomeTest(unittest.TestCase):
    def test_names_and_pages_that_were_allowed(self):
        with RunningServer("nano", "--allow-host", "models.example.org", "--allow-origin", "https://example.org") as server:
            self.assertEqual(server.get("/v1/models", {"Host": "models.example.org"}).status, 200)
            self.assertEqual(server.get("/v1/models", {"Host": "other.example.org"}).status, 403)
            allowed = server.get("/v1/models", {"Origin": "https://example.org"})
            self.assertEqual((allowed.status, allowed.headers["access-control-allow-origin"]), (200, "https://example.org"))
            self.assertEqual(server.get("/v1/models", {"Origin": "http://example.org"}).status, 403)

    def test_so_many_requests_in_a_minute(self):
        with RunningServer("nano", "--rate", "5") as server:
            statuses = [server.get("/v1/models").status for _ in range(8)]
            self.assertEqual(statuses, [200] * 5 + [429] * 3)
            refused = server.get("/v1/models")
            self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
            self.assertEqual(check_shape(refused.json, "error")["error"]["code"], "rate_limit_exceeded")
            self.assertEqual(server.get("/health").status, 200)

    def test_a_key_from_the_environment(self):
        with RunningServer("nano", env={"PUNA_API_KEY": MANAGE}) as server:
            self.assertEqual(server.get("/v1/models").status, 401)
            self.assertEqual(server.get("/v1/models", {"x-api-key": MANAGE}).status, 200)

    def test_a_body_over_the_limit_is_refused_unread(self):
        with RunningServer("nano", "--max-body", "1") as server:
            head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            self.assertTrue(server.raw(head % (2 << 20)).startswith(b"HTTP/1.1 413 "))
            chunks = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"80000\r\n" + b"x" * 0x80000
            self.assertTrue(server.raw(chunks + b"\r\n80000\r\n" + b"x" * 0x80000 + b"\r\n80000\r\n").startswith(b"HTTP/1.1 413 "))
            for path, says in ((b"/api/chat", b'{"error":"'), (b"/v1/messages", b'"type":"error"'), (b"/v1/completions", b'{"error":{')):
                asked = (head % (2 << 20)).replace(b"/tokenize", path).replace(b"Host:", b"Origin: http://localhost:3000\r\nHost:")
                answer = server.raw(asked)
                self.assertIn(says, answer.replace(b": ", b":"), path)
                self.assertIn(b"Access-Control-Allow-Origin: http://localhost:3000", answer, path)
            long = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20000 + b"\r\n\r\n"
            self.assertTrue(server.raw(long).startswith(b"HTTP/1.1 431 "))


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
class TlsTest(unittest.TestCase):
    def test_answers_over_tls_and_over_nothing_older(self):
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
            with RunningServer("nano", "--tls-cert", certificate, "--tls-key", key) as server:
                self.assertTrue(server.url.startswith("https://127.0.0.1:"))
                for newest, answers in ((ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
                    context = ssl.create_default_context(cafile=certificate)
                    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, newest
                    client = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=30)
                    try:
                        client.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 3}))
                        self.assertEqual(client.getresponse().status, 200)
                        self.assertTrue(answers, newest)
                    except ssl.SSLError:
                        self.assertFalse(answers, newest)
                    finally:
                        client.close()
                with socket.create_connection((server.host, server.port), timeout=10) as plain:
                    plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    self.assertNotIn(b"HTTP", plain.recv(100))
                self.assertEqual(server.stop(), 0)
            with RunningServer("nano", "--tls-cert", certificate, "--tls-key", key, env={"PUNA_API_KEY": MANAGE}) as server:
                context = ssl.create_default_context(cafile=certificate)
                for _ in range(8):  # refused before its body has come, and read nevertheless
                    client = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=30)
                    client.request("POST", "/v1/completions", b"x" * 6_000_000, {"Authorization": "Bearer wrong"})
                    self.assertEqual(client.getresponse().status, 401)
                    client.close()


if __name__ == "__main__":
    unittest.main()
