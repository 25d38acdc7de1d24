# SPDX-License-Identifier: Apache-2.0
"""What is left when a server is killed, or its disk is full, in the middle of a download or of a vote, and when it has no descriptors."""

import http.client
import json
import os
import resource
import signal
import socket
import tempfile
import threading
import unittest

import fake_hub
from running_server import RunningServer, is_sanitized
from shapes import check_shape

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NANO = os.path.join(ROOT, "models", "nano", "nano.gguf")
FILE = "one-Q8_0.gguf"


def vote(number):
    say = lambda text: [{"role": "assistant", "content": text}]
    return {"prompt": [{"role": "user", "content": "%d " % number + "question " * 200}], "chosen": say("yes"), "rejected": say("no"),
            "winner": "a"}


# Files of this process may not grow beyond so many bytes: what a full disk does.
def limit_files(server, size):
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class VoteTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "votes.jsonl")

    def start(self, file=None):
        server = RunningServer("nano", "--votes", file or self.file)
        self.addCleanup(server.stop)
        return server

    def lines(self):
        with open(self.file) as file:
            return [json.loads(line) for line in file.read().splitlines()]

    def test_a_kill_loses_no_vote_that_was_kept(self):
        kept = []

        # Votes as fast as they are taken, until nobody takes them.
        def voting(server):
            try:
                while server.post("/puna/votes", vote(len(kept))).status == 200:
                    kept.append(len(kept))
                    if len(kept) % 40 == 0:
                        enough.set()
            except (OSError, http.client.HTTPException):
                pass

        for _ in range(3):
            server, enough = self.start(), threading.Event()
            voter = threading.Thread(target=voting, args=(server,))
            voter.start()
            self.assertTrue(enough.wait(60))
            server.stop(signal.SIGKILL)
            voter.join()
            with open(self.file, "a") as file:
                file.write('{"prompt": [{"ro')  # as if it had been killed within one
        server = self.start()
        listed = [int(one["prompt"][0]["content"].split()[0]) for one in server.get("/puna/votes").json["votes"]]
        self.assertEqual(sorted(set(listed)), sorted(set(kept) | set(listed)))
        self.assertLessEqual(len(set(listed)) - len(kept), 1, "one that was written and not told")
        self.assertEqual(server.post("/puna/votes", vote(10**6)).status, 200)
        self.assertEqual(len(self.lines()), len(listed) + 1, "every line is a vote again")

    def refused(self, server):
        answer = server.post("/puna/votes", vote(2))
        self.assertEqual(answer.status, 507, answer.text)
        self.assertEqual(check_shape(answer.json, "error")["error"]["code"], "votes_not_written")
        self.assertNotIn("votes.jsonl", answer.text)
        self.assertNotIn("/dev", answer.text)
        self.assertEqual(server.get("/health").status, 200)

    def test_a_full_disk(self):
        server = self.start("/dev/full")
        self.refused(server)
        self.assertIn("No space left", server.log())

    def test_half_a_vote_is_taken_back(self):
        server = self.start()
        self.assertEqual(server.post("/puna/votes", vote(1)).status, 200)
        size = os.path.getsize(self.file)
        limit_files(server, size + 100)
        self.refused(server)
        self.assertEqual(os.path.getsize(self.file), size)
        limit_files(server, resource.RLIM_INFINITY)
        self.assertEqual(server.post("/puna/votes", vote(3)).status, 200)
        self.assertEqual(len(self.lines()), 2)


class PullTest(unittest.TestCase):
    def setUp(self):
        with open(NANO, "rb") as file:
            self.nano = file.read()
        self.hub = fake_hub.Hub({"org/one": fake_hub.Repository({FILE: self.nano})})
        self.addCleanup(self.hub.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name

    def start(self):
        server = RunningServer("nano", env={"HF_HOME": self.home, "HF_ENDPOINT": self.hub.endpoint, "HF_TOKEN": "", "no_proxy": "*"})
        self.addCleanup(server.stop)
        return server

    def names(self, server):
        return [model["name"] for model in server.get("/api/tags").json["models"]]

    # The model is there and says something, and of the download nothing else is left.
    def check_whole(self, server):
        answer = server.post("/api/pull", {"model": "org/one", "stream": False})
        self.assertEqual((answer.status, answer.json), (200, {"status": "success"}))
        asked = {"model": "org/one", "prompt": "Hi", "stream": False, "options": {"num_predict": 4}}
        self.assertEqual(server.post("/api/generate", asked).status, 200)
        left = [name for _, _, files in os.walk(self.home) for name in files if name.endswith(".incomplete")]
        self.assertEqual(left, [])

    def test_a_kill_in_the_middle(self):
        for part in (1, 100_000, len(self.nano) - 1):
            server = self.start()
            self.hub.faults.hold_after = {FILE: part}
            self.hub.faults.held.clear()
            puller = threading.Thread(target=self.pull_in_vain, args=(server,))
            puller.start()
            self.assertTrue(self.hub.faults.held.wait(60))
            server.stop(signal.SIGKILL)
            puller.join()
            self.hub.faults.hold_after = {}
            server = self.start()
            self.assertEqual(self.names(server), ["nano"])
            self.check_whole(server)
            self.assertEqual(server.request("DELETE", "/api/delete", {"model": "org/one"}).status, 200)
            server.stop()

    def pull_in_vain(self, server):
        try:
            server.post("/api/pull", {"model": "org/one"})
        except (OSError, http.client.HTTPException):
            pass

    def test_a_full_disk(self):
        server = self.start()
        limit_files(server, len(self.nano) // 2)
        for stream in (True, False):
            answer = server.post("/api/pull", {"model": "org/one", "stream": stream})
            told = json.loads(answer.text.splitlines()[-1])
            self.assertIn("error", told, answer.text)
            self.assertNotIn(self.home, answer.text)
            self.assertEqual(server.get("/health").status, 200)
            self.assertEqual(self.names(server), ["nano"])
        limit_files(server, resource.RLIM_INFINITY)
        self.check_whole(server)


class CutFileTest(unittest.TestCase):
    BODY = {"prompt": "Once", "max_tokens": 4, "temperature": 0}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "mine.gguf")
        with open(NANO, "rb") as file:
            self.nano = file.read()
        self.write(self.nano)
        self.server = RunningServer(self.file)
        self.addCleanup(self.server.stop)

    def write(self, content):
        with open(self.file, "wb") as file:
            file.write(content)

    def test_it_is_refused_and_comes_back(self):
        said = self.server.post("/v1/completions", self.BODY).json["choices"]
        for size in (len(self.nano) - 1, 4096, 0):
            os.truncate(self.file, size)
            for _ in range(2):
                answer = self.server.post("/v1/completions", self.BODY)
                self.assertEqual(answer.status, 500, answer.text)
                self.assertEqual(check_shape(answer.json, "error")["error"]["code"], "model_not_loadable")
                self.assertNotIn(os.path.dirname(self.file), answer.text)
                self.assertEqual(self.server.get("/health").status, 200)
            self.assertIn("mine.gguf", self.server.log())
            self.write(self.nano)
            self.assertEqual(self.server.post("/v1/completions", self.BODY).json["choices"], said)

    def test_a_file_that_is_replaced_is_none_that_was_cut(self):
        loaded = self.server.get("/v1/models/mine").json["puna"]
        os.rename(self.file, self.file + ".old")
        self.write(b"another")
        self.assertEqual(self.server.post("/v1/completions", self.BODY).status, 200)
        self.assertEqual(self.server.get("/v1/models/mine").json["puna"]["state"], loaded["state"])

    def test_in_the_middle_of_an_answer_the_program_ends_with_its_name(self):
        connection = self.server.connection()
        body = {**self.BODY, "max_tokens": 900, "stream": True, "ignore_eos": True}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        self.assertTrue(connection.getresponse().read(200))
        os.truncate(self.file, 4096)
        self.assertEqual(self.server.process.wait(60), 3)
        connection.close()
        self.assertRegex(self.server.log(), r"(?m)^puna: \[.*/mine\.gguf\] the file was cut short .* has 4096 bytes, and had %d: write" %
                         len(self.nano))


@unittest.skipIf(is_sanitized(), "UBSan itself takes a descriptor to look at an object")
class DescriptorTest(unittest.TestCase):
    def test_no_descriptors_left(self):
        with RunningServer() as server:
            early = server.connection()
            early.connect()
            self.ask(early)
            open_now = len(os.listdir("/proc/%d/fd" % server.process.pid))
            _, most = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (open_now + 8, most))
            crowd = [socket.create_connection((server.host, server.port), timeout=60) for _ in range(40)]
            for _ in range(5):
                self.ask(early)
            body = {"prompt": "Once", "max_tokens": 4}
            early.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            self.assertEqual(early.getresponse().read()[:1], b"{")
            for one in crowd:
                one.close()
            early.close()
            self.assertEqual(server.post("/v1/completions", body).status, 200, "it takes clients again")

    def ask(self, connection):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.read()), (200, b'{"status":"ok"}'))


if __name__ == "__main__":
    unittest.main()
