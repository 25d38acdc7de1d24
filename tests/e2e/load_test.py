# SPDX-License-Identifier: Apache-2.0
"""puna load against puna serve, and against servers that fail. PUNA is the program's path."""

import json
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from running_server import PATIENCE, PUNA, RunningServer


def load(url, *arguments, model="nano"):
    named = ["--model", model] if model else []
    return subprocess.run([PUNA, "load", "--host", url, *named, "--json", *arguments], capture_output=True, text=True, timeout=2 * PATIENCE)


class StubHandler(BaseHTTPRequestHandler):
    """Events 0.1 s apart, or what the server's `fault` says."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.listed)))
        self.end_headers()
        self.wfile.write(self.server.listed.encode())

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        fault = self.server.fault
        if fault == "status":
            self.send_response(429)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        texts = ["", "a", "b", "c"] if fault != "error" else ["a"]
        for text in texts:
            time.sleep(0.1)
            self.event({"choices": [{"delta": {"content": text}}]})
        if fault == "error":
            self.event({"error": {"message": "gone"}})
        if fault != "cut":
            self.event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}})
            self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()


class StubServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fault=None, listed=""):
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.fault, self.listed, self.bodies = fault, listed, []
        self.url = "http://127.0.0.1:%d" % self.server_port
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class LoadTest(unittest.TestCase):
    def test_a_served_model_is_measured(self):
        with RunningServer("nano") as server:
            result = load(server.url, "-c", "4", "-n", "12", "--stream", "--prompt-tokens", "20", "--max-tokens", "8", "--ignore-end")
            self.assertEqual(result.returncode, 0, result.stderr)
            report = json.loads(result.stdout)
            self.assertEqual((report["answered"], report["failed"], report["errors"]), (12, 0, {}))
            self.assertEqual(report["completion_tokens"], 12 * 8)
            self.assertGreaterEqual(report["prompt_tokens"], 12 * 20)
            self.assertEqual(server.metric("puna_completion_tokens_total"), 12 * 8)
            for name in ("time_to_first_token_ms", "inter_token_latency_ms", "end_to_end_ms"):
                spread = report[name]
                self.assertTrue(0 <= spread["p50"] <= spread["p90"] <= spread["p99"] <= spread["max"], spread)
            self.assertLess(report["time_to_first_token_ms"]["mean"], report["end_to_end_ms"]["mean"])
            whole = json.loads(load(server.url, "-n", "2", "--max-tokens", "4").stdout)
            self.assertEqual((whole["answered"], whole["model"]), (2, "nano"))
            unnamed = json.loads(load(server.url, "-n", "1", "--max-tokens", "4", model=None).stdout)
            self.assertEqual((unnamed["answered"], unnamed["model"]), (1, "nano"))
            self.assertIsNone(whole["time_to_first_token_ms"])
            unknown = load(server.url, "-n", "3", model="absent")
            self.assertEqual(json.loads(unknown.stdout)["errors"], {"404": 3})
            self.assertEqual(unknown.returncode, 6)

    def test_a_server_without_models_is_told(self):
        for listed in ('{"data": []}', '{"data": [{}]}', "[]", '{"object": "list"}'):
            with StubServer(listed=listed) as stub:
                result = load(stub.url, "-n", "1", model=None)
            self.assertEqual(result.returncode, 4, result.stderr)
            self.assertIn("name one with --model", result.stderr)

    def test_times_are_those_of_the_server(self):
        with StubServer() as stub:
            report = json.loads(load(stub.url, "-c", "3", "-n", "6", "--stream").stdout)
        self.assertEqual((report["prompt_tokens"], report["completion_tokens"]), (30, 42))
        self.assertAlmostEqual(report["time_to_first_token_ms"]["p50"], 200, delta=90)  # an empty text is none
        self.assertAlmostEqual(report["inter_token_latency_ms"]["p50"], 100, delta=50)
        self.assertAlmostEqual(report["end_to_end_ms"]["p50"], 400, delta=150)
        self.assertAlmostEqual(report["seconds"], 0.8, delta=0.4)

    def test_a_rate_counts_the_wait_for_a_client(self):
        with StubServer() as stub:
            report = json.loads(load(stub.url, "-c", "1", "-n", "6", "--rate", "1000", "--stream").stdout)
        self.assertGreater(report["end_to_end_ms"]["max"], 2000)  # five others were before it
        with StubServer() as stub:
            report = json.loads(load(stub.url, "-c", "8", "--seconds", "2", "--rate", "10", "--stream").stdout)
        self.assertTrue(8 <= report["answered"] <= 36, report["answered"])
        self.assertLess(report["end_to_end_ms"]["p50"], 700)

    def test_failures_are_counted_by_what_they_are(self):
        for fault, expected in (("status", {"429": 4}), ("cut", {"the stream ended before [DONE]": 4}),
                                ("error", {"an error within the answer": 4})):
            with StubServer(fault) as stub:
                result = load(stub.url, "-c", "2", "-n", "4", "--stream")
            report = json.loads(result.stdout)
            self.assertEqual((report["answered"], report["failed"], report["errors"]), (0, 4, expected))
            self.assertEqual(result.returncode, 6)

    def test_a_server_that_is_not_there_is_given_up(self):
        with StubServer() as stub:
            url = stub.url
        result = load(url, "-c", "8", "--seconds", "60")
        self.assertEqual(result.returncode, 6)
        self.assertLess(json.loads(result.stdout)["failed"], 120)

    def test_prompts_share_what_they_should(self):
        with StubServer() as stub:
            load(stub.url, "-n", "2", "--stream", "--prompt-tokens", "10", "--shared-prefix", "6")
            first, second = [body["messages"][0]["content"].split() for body in stub.bodies]
            self.assertEqual((len(first), first[:6]), (10, second[:6]))
            self.assertNotEqual(first, second)
            with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
                file.write('{"prompt": "one"}\n{"messages": [{"role": "user", "content": "two"}]}\n')
                file.flush()
                stub.bodies.clear()
                load(stub.url, "-n", "3", "--stream", "--prompt-file", file.name)
            self.assertEqual([body["messages"][0]["content"] for body in stub.bodies], ["one", "two", "one"])

    def test_an_interrupt_still_reports(self):
        with StubServer() as stub:
            process = subprocess.Popen([PUNA, "load", "--host", stub.url, "--model", "x", "--json", "--stream", "-c", "2", "--seconds", "60"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 130, error)
        report = json.loads(output)
        self.assertTrue(report["interrupted"])
        self.assertGreater(report["answered"], 0)
        self.assertEqual(report["failed"], 0)

    def test_a_load_without_an_end_is_refused(self):
        result = load("http://127.0.0.1:1")
        self.assertEqual(result.returncode, 2)
        self.assertIn("--seconds", result.stderr)


if __name__ == "__main__":
    unittest.main()
