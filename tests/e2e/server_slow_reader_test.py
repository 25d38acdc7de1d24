# SPDX-License-Identifier: Apache-2.0
"""Clients that do not read what is written to them: their answers pause, others' go on, and nothing is lost."""

import json
import signal
import socket
import time
import unittest

from running_server import RunningServer
from shapes import check_stream, joined

COMPLETIONS = "/v1/completions"
# The system takes about half a megabyte of it, and the server a quarter.
LONG = {"prompt": "Once upon a time", "max_tokens": 700, "ignore_eos": True, "temperature": 1, "seed": 4, "logprobs": 20, "n": 4,
        "stream": True}


class SlowClient:
    """Asks, and reads only when it is told to."""

    def __init__(self, server, body):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(60)
        self.socket.connect((server.host, server.port))
        text = json.dumps(body).encode()
        self.socket.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                            % (COMPLETIONS.encode(), len(text), text))

    # What comes until the connection ends or breaks.
    def read_all(self):
        data = bytearray()
        try:
            while part := self.socket.recv(1 << 20):
                data += part
        except ConnectionResetError:
            pass
        self.socket.close()
        return data

    # All of the answer, without its chunks' sizes.
    def read(self):
        data = self.read_all()
        at, body = data.index(b"\r\n\r\n") + 4, bytearray()
        while size := int(data[at:(end := data.index(b"\r\n", at))], 16):
            body += data[end + 2:end + 2 + size]
            at = end + 4 + size
        return bytes(body)

    def close(self):
        self.socket.close()


class SlowReaderTest(unittest.TestCase):
    def setUp(self):
        self.server = RunningServer("nano", "--parallel", "4")

    def tearDown(self):
        self.server.stop()

    def wait_until(self, true, seconds=60):
        end = time.monotonic() + seconds
        while not true():
            self.assertLess(time.monotonic(), end, "in vain")
            time.sleep(0.02)

    # Answers that nobody writes, or nothing while some are written.
    def stand_still(self):
        if self.server.metric("puna_answers_running") > 0:
            return None
        return self.server.metric("puna_answers_paused") + self.server.metric("puna_answers_waiting")

    # All four answers of a request.
    def paused_client(self, server=None):
        server = server or self.server
        client = SlowClient(server, LONG)
        self.wait_until(lambda: server.metric("puna_answers_paused") == 4)
        return client

    def test_an_answer_pauses_and_others_go_on(self):
        whole = self.server.stream_bytes(COMPLETIONS, LONG)
        self.assertGreater(len(whole), 3 << 19, "more than the system and the server take")
        clients = [self.paused_client()]
        clients.append(SlowClient(self.server, LONG))
        self.wait_until(lambda: self.stand_still() == 8)
        answer = self.server.post(COMPLETIONS, {"prompt": "Once", "max_tokens": 8, "ignore_eos": True})
        self.assertEqual(answer.json["usage"]["completion_tokens"], 8)
        self.wait_until(lambda: self.stand_still() == 8)
        self.assertEqual(self.server.metric("puna_requests_in_flight"), 2)
        self.assertEqual(self.server.metric("puna_answers_total"), 4 + 1)
        expected = check_stream(whole, "completion_chunk")
        for client in clients:
            events = check_stream(client.read(), "completion_chunk")
            for i in range(4):
                self.assertEqual(joined(events, i)[0], joined(expected, i)[0])

    def test_a_client_that_goes_meanwhile(self):
        self.paused_client().close()
        self.wait_until(lambda: self.server.metric("puna_requests_in_flight") == 0)
        self.wait_until(lambda: self.stand_still() == 0)
        kept = self.server.metric("puna_kv_pages_free") + self.server.metric("puna_kv_pages_cached")
        self.assertEqual(kept, self.server.metric("puna_kv_pages"))

    def test_the_server_ends_meanwhile(self):
        client = self.paused_client()
        self.server.process.send_signal(signal.SIGTERM)
        events = check_stream(client.read(), "completion_chunk")
        self.assertEqual([joined(events, i)[2] for i in range(4)], ["length"] * 4)
        self.assertEqual(self.server.process.wait(60), 0)
        self.assertNotIn("cut off", self.server.log())

    # Nobody reads these answers, so they cannot have ended by themselves when the time is over.
    def test_the_time_to_end_them_has_an_end(self):
        server = RunningServer("nano", "--parallel", "4", "--drain", "0")
        self.addCleanup(server.stop)
        client = self.paused_client(server)
        began = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - began, 3)
        self.assertIn("1 answers were cut off", server.log(), "one request of four")
        self.assertNotIn(b"[DONE]", client.read_all())


if __name__ == "__main__":
    unittest.main()
