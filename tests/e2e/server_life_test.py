# SPDX-License-Identifier: Apache-2.0
"""A server's life: flags, files and variables it starts with, models by name, what it counts, and how it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from running_server import PATIENCE, PUNA, RunningServer, in_parallel
from shapes import check_shape, check_stream, joined

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STORIES = os.path.join(os.path.dirname(ROOT), "shared", "data", "stories260K", "stories260K.gguf")
CHAT = "/v1/chat/completions"
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
LONG = {"messages": CAPITAL, "max_tokens": 200, "ignore_eos": True, "temperature": 1, "stream": True}


def puna(*arguments, **env):
    full_env = {name: value for name, value in os.environ.items() if not name.startswith("PUNA_")}
    return subprocess.run([PUNA, *arguments], capture_output=True, text=True, timeout=60, env={**full_env, **env})


class StartTest(unittest.TestCase):
    def test_wrong_flags(self):
        with tempfile.TemporaryDirectory() as folder:
            keys, config = os.path.join(folder, "keys"), os.path.join(folder, "config.yaml")
            for name, text in ((keys, "short\n"), (config, "prot: 80\n")):
                with open(name, "w") as file:
                    file.write(text)
            for code, arguments, said in (
                    (2, ["--port", "70000"], "--port"), (2, ["--port", "x"], "--port"), (2, ["--prot", "1"], "--port"),
                    (2, ["--host", "0.0.0.0"], "--api-key-file"), (2, ["--host", "no.such.host.invalid"], "no.such.host"),
                    (2, ["--host", "192.0.2.1", "--api-key-file", "/dev/stdin"], ""), (2, ["--parallel", "0"], "--parallel"),
                    (2, ["--tls-cert", keys], "together"), (2, ["--api-key-file", keys], "16"), (2, ["--temp", "-1"], "temp"),
                    (4, ["--api-key-file", keys + "2"], "keys2"), (4, ["--config", keys + "2"], "keys2"), (3, ["--config", config], "prot"),
                    (2, ["nano", "nano"], "NAME=MODEL"), (2, ["=nano"], "name"), (4, ["no-such-model"], "no-such-model"),
                    (2, ["--drain", "-1"], "--drain"), (2, ["--max-body", "0"], "--max-body"), (2, ["--rate"], "--rate")):
                model = [] if not arguments[0].startswith("-") else ["nano"]
                result = subprocess.run([PUNA, "serve", *model, *arguments], capture_output=True, text=True, timeout=60,
                                        input="a-key-of-enough-letters\n")
                self.assertEqual(result.returncode, code, (arguments, result.stderr))
                self.assertIn(said, result.stderr)
                self.assertEqual(result.stdout, "")

    def test_a_port_that_is_taken(self):
        with RunningServer() as server:
            result = puna("serve", "nano", "--port", str(server.port))
            self.assertEqual(result.returncode, 5, result.stderr)
            self.assertIn("--port", result.stderr)

    def test_a_configuration_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("port: 0\nparallel: 2\ntemp: 0\nallow-host: models.example.org\n")
            file.flush()
            with RunningServer("nano", "--config", file.name) as server:
                self.assertEqual(server.get("/v1/models", {"Host": "models.example.org"}).status, 200)
                self.assertEqual(server.get("/puna/props").json["defaults"]["temperature"], 0)
            with RunningServer("nano", "--config", file.name, "--temp", "0.5") as server:
                self.assertEqual(server.get("/puna/props").json["defaults"]["temperature"], 0.5)

    def test_its_seed_says_what_requests_without_one_are_answered(self):
        def said(*arguments):
            with RunningServer("nano", *arguments) as server:
                texts = [server.post("/v1/completions", {"prompt": "Once", "max_tokens": 12, "temperature": 1.5}).json for _ in range(2)]
                texts.append(server.post("/api/generate", {"model": "nano", "prompt": "Once", "raw": True, "stream": False,
                                                           "options": {"num_predict": 12, "temperature": 1.5}}).json)
                server.post("/v1/completions", {"prompt": "Once", "max_tokens": 1, "seed": 3})
                texts.append(server.post("/v1/completions", {"prompt": "Once", "max_tokens": 12, "temperature": 1.5}).json)
            return [text["response"] if "response" in text else text["choices"][0]["text"] for text in texts]

        first = said("--seed", "7")
        self.assertEqual(len(set(first)), 4, "each request has a seed of its own")
        self.assertEqual(said("--seed", "7"), first)
        self.assertTrue(set(said("--seed", "8")).isdisjoint(first))
        self.assertNotEqual(said(), said())

    def test_its_address_from_the_environment(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % free.getsockname()[1]
        process = subprocess.Popen([PUNA, "serve", "nano"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "PUNA_HOST": address})
        self.assertEqual(process.stdout.readline().decode().strip(), "http://" + address)
        listed = puna("ps", "--json", PUNA_HOST=address)
        self.assertEqual(json.loads(listed.stdout)["data"][0]["id"], "nano", listed.stderr)
        self.assertEqual(puna("stop", PUNA_HOST=address).returncode, 0)
        self.assertEqual(process.wait(30), 0)
        process.stdout.close()
        self.assertEqual(puna("ps", PUNA_HOST=address).returncode, 6, "nobody is there any more")

    def test_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "puna.sock")
            server = RunningServer("nano", "--unix", path)
            self.assertEqual(server.url, "unix:" + path)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(path)
            connection.request("GET", "/health")
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
            self.assertIn("nano", puna("ps", "--host", "unix:" + path).stdout)
            self.assertEqual(server.stop(), 0)
            self.assertFalse(os.path.exists(path))


class ModelsTest(unittest.TestCase):
    def test_models_by_name_and_unloading(self):
        models = ["nano", "second=nano"] + (["tales=" + STORIES] if os.path.exists(STORIES) else [])
        with RunningServer(*models) as server:
            host = "127.0.0.1:%d" % server.port
            states = lambda: {model["id"]: model["puna"]["state"] for model in server.get("/v1/models").json["data"]}
            names = [word.split("=")[0] for word in models]
            self.assertEqual(states(), {name: "loaded" if name == "nano" else "available" for name in names})
            for name in names:
                answer = server.post("/v1/completions", {"model": name, "prompt": "Once", "max_tokens": 4}).json
                self.assertEqual(check_shape(answer, "completion")["model"], name)
            self.assertEqual(states(), {name: "loaded" for name in names})
            self.assertNotIn(os.path.dirname(STORIES), server.get("/v1/models").text)
            self.assertEqual(server.post(CHAT, {"messages": CAPITAL, "model": "second:latest"}).json["model"], "second")
            self.assertEqual(server.post(CHAT, {"messages": CAPITAL}).json["model"], "nano", "the first, where none is named")
            stopped = puna("stop", "second", "--host", host)
            self.assertEqual((stopped.returncode, stopped.stdout), (0, "second is unloaded\n"), stopped.stderr)
            self.assertEqual(states()["second"], "available")
            self.assertEqual(puna("stop", "nobody", "--host", host).returncode, 4)
            listed = puna("ps", "--host", host).stdout
            self.assertRegex(listed, r"(?m)^nano +loaded .* 1024$")
            self.assertRegex(listed, r"(?m)^second +available ")
            self.assertEqual(server.post(CHAT, {"messages": CAPITAL, "model": "second"}).status, 200, "it is loaded again")

    def test_names_may_be_percent_encoded(self):
        with RunningServer("nano", "org/second=nano") as server:
            for path, name in (("org/second", "org/second"), ("org%2Fsecond", "org/second"), ("org%2fsecond", "org/second"), ("n%61no", "nano")):
                answer = server.get("/v1/models/" + path)
                self.assertEqual((answer.status, answer.json.get("id")), (200, name), path)
            for path in ("%2e%2e/nano", "nano%00", "%", "%2", "na%2no"):
                self.assertEqual(server.get("/v1/models/" + path).status, 404, path)

    def test_an_unloaded_model_that_still_writes_counts(self):
        with RunningServer("nano", "second=nano", "--memory", "80") as server:
            short = {"messages": CAPITAL, "model": "second", "max_tokens": 1}
            writer = threading.Thread(target=lambda: server.post(CHAT, LONG))
            writer.start()
            self.wait_until(lambda: server.metric("puna_requests_in_flight") == 1, 5)
            before = server.post(CHAT, short)
            self.assertEqual(server.post("/puna/unload", {"model": "nano"}).status, 200)
            after = server.post(CHAT, short)
            if writer.is_alive():
                self.assertEqual((before.status, after.status), (503, 503), after.text)
            writer.join()

    def test_an_idle_model_is_unloaded(self):
        with RunningServer("nano", "--keep-alive", "1") as server:
            server.post(CHAT, {"messages": CAPITAL})
            self.assertEqual(server.get("/v1/models/nano").json["puna"]["state"], "loaded")
            self.wait_until(lambda: server.get("/v1/models/nano").json["puna"]["state"] == "available", 5)

    def test_unloading_does_not_break_an_answer(self):
        with RunningServer() as server:
            events = []
            reader = threading.Thread(target=lambda: events.append(server.stream_bytes(CHAT, LONG)))
            reader.start()
            self.wait_until(lambda: server.metric("puna_requests_in_flight") == 1, 5)
            self.assertEqual(server.post("/puna/unload", {"model": "nano"}).status, 200)
            reader.join()
            check_stream(events[0], "chat_completion_chunk")

    def wait_until(self, true, seconds):
        end = time.monotonic() + seconds * PATIENCE / 60
        while not true():
            self.assertLess(time.monotonic(), end, "in vain")
            time.sleep(0.02)


class CountingTest(unittest.TestCase):
    wait_until = ModelsTest.wait_until

    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer("nano", "--parallel", "4", "--max-in-flight", "8")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_health_and_figures(self):
        self.assertEqual(self.server.get("/health").json, {"status": "ok"})
        self.assertEqual(self.server.get("/ready").json, {"status": "ready"})
        self.server.post(CHAT, {"messages": CAPITAL})
        response = self.server.get("/metrics")
        self.assertTrue(response.headers["content-type"].startswith("text/plain; version=0.0.4"))
        seen = set()
        for line in response.text.splitlines():
            if line.startswith("# TYPE "):
                seen.add(line.split()[2])
            elif not line.startswith("#"):
                self.assertRegex(line, r'^[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)+\})? [-+0-9.eInf]+$')
                name = line.split("{")[0].split(" ")[0]
                base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
                self.assertTrue({name, base} & seen, line)
        self.assertIn("puna_requests_total", seen)

    def test_the_beginning_that_two_prompts_share_is_read_once(self):
        system = [{"role": "system", "content": "You know the small world well. " * 12}]
        body = {"messages": system + CAPITAL, "temperature": 0, "max_tokens": 16}
        first, second = self.server.post(CHAT, body).json, self.server.post(CHAT, body).json
        self.assertEqual(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertGreater(second["usage"]["prompt_tokens_details"]["cached_tokens"], 50)
        self.assertEqual(second["choices"], first["choices"])
        other = self.server.post(CHAT, {**body, "messages": system + [{"role": "user", "content": "And Italy?"}]}).json
        self.assertGreater(other["usage"]["prompt_tokens_details"]["cached_tokens"], 50)

    def test_a_client_that_goes_takes_its_answer_along(self):
        for leave_after in (0, 1, 3000):
            connection = self.server.connection()
            connection.request("POST", CHAT, json.dumps({**LONG, "n": 4}), {"Content-Type": "application/json"})
            if leave_after:
                self.assertEqual(len(connection.getresponse().read(leave_after)), leave_after)
            connection.close()
            self.wait_until(lambda: self.server.metric("puna_requests_in_flight") == 0, 5)
            self.wait_until(lambda: self.server.metric("puna_answers_running") + self.server.metric("puna_answers_waiting") == 0, 5)
        self.assertGreater(self.server.get("/metrics").text.count('status="499"'), 0)

    def test_more_requests_than_are_taken(self):
        body = {**LONG, "max_tokens": 150}
        answers = in_parallel(24, lambda _: self.server.post(CHAT, body))
        statuses = sorted(answer.status for answer in answers)
        self.assertEqual(set(statuses), {200, 429}, statuses)
        for answer in answers:
            if answer.status == 429:
                self.assertEqual(check_shape(answer.json, "error")["error"]["code"], "overloaded")
                self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
            else:
                check_stream(answer.body, "chat_completion_chunk")
        self.assertEqual(self.server.post(CHAT, {"messages": CAPITAL}).status, 200)


    # All heads come while there is room, then all bodies.
    def test_no_more_are_taken_than_there_is_room_for(self):
        self.wait_until(lambda: self.server.metric("puna_requests_in_flight") == 0, 10)
        body = json.dumps({**LONG, "n": 4}).encode()
        sockets = [socket.create_connection((self.server.host, self.server.port), timeout=60) for _ in range(20)]
        for one in sockets:
            one.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{" % (CHAT.encode(), len(body)))
        time.sleep(0.3)
        for one in sockets:
            one.sendall(body[1:])
        statuses = sorted(int(one.recv(12).split()[1]) for one in sockets)
        for one in sockets:
            one.close()
        self.assertEqual(set(statuses), {200, 429}, statuses)
        self.assertLessEqual(statuses.count(200), 8 // 4 + 2, "those that ended meanwhile made room")
        self.wait_until(lambda: self.server.metric("puna_requests_in_flight") == 0, 10)

    def test_a_request_takes_a_place_for_each_of_its_answers(self):
        self.wait_until(lambda: self.server.metric("puna_places_taken") == 0, 10)
        busy = self.server.connection()
        busy.request("POST", CHAT, json.dumps({**LONG, "max_tokens": 900, "n": 5}), {"Content-Type": "application/json"})
        answer = busy.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.server.metric("puna_places_taken"), 5)
        self.assertEqual(self.server.metric("puna_requests_in_flight"), 1)
        for path, body in ((CHAT, {"messages": CAPITAL, "n": 4, "stream": True}),
                           ("/v1/completions", {"prompt": ["a", "b"], "n": 2}), ("/v1/completions", {"prompt": ["a"] * 4})):
            refused = self.server.post(path, body)
            self.assertEqual(refused.status, 429, refused.text)
            error = check_shape(refused.json, "error")["error"]
            self.assertEqual(error["code"], "overloaded")
            self.assertRegex(error["message"], r"\b5 .*\b8\b.*\b4\b", "taken, all, wanted")
            self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
            self.assertGreater(int(refused.headers["retry-after-ms"]), 0)
        self.assertEqual(self.server.metric("puna_places_taken"), 5, "who was refused has given back its own")
        self.assertEqual(self.server.post("/v1/completions", {"prompt": ["a"] * 3, "max_tokens": 1}).status, 200, "for three there is room")
        busy.close()
        self.wait_until(lambda: self.server.metric("puna_places_taken") == 0, 5)

    def test_more_answers_than_there_ever_is_room_for(self):
        for path, body, param, wanted in ((CHAT, {"messages": CAPITAL, "n": 9}, "n", 9),
                                          ("/v1/completions", {"prompt": "a", "n": 16}, "n", 16),
                                          ("/v1/completions", {"prompt": ["a"] * 9, "stream": True}, "prompt", 9),
                                          ("/v1/completions", {"prompt": ["a"] * 64, "n": 16}, "n", 1024)):
            refused = self.server.post(path, body)
            self.assertEqual(refused.status, 400, refused.text)
            error = check_shape(refused.json, "error")["error"]
            self.assertEqual((error["code"], error["param"]), ("too_many_answers", param))
            self.assertRegex(error["message"], r"\b%d\b.*\b8\b" % wanted)

    def test_a_long_list_of_texts_is_read_a_few_at_a_time(self):
        self.wait_until(lambda: self.server.metric("puna_places_taken") == 0, 10)
        texts, seen, done = ["The sky is blue today. " * 8 + str(i) for i in range(200)], [], threading.Event()

        def watch():
            while not done.is_set():
                seen.append((self.server.metric("puna_places_taken"),
                             self.server.metric("puna_answers_waiting") + self.server.metric("puna_answers_running")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        whole = self.server.post("/v1/embeddings", {"input": texts})
        done.set()
        watcher.join()
        self.assertEqual(whole.status, 200, whole.text[:500])
        self.assertEqual(max(places for places, _ in seen), 4, "as many as are read at once: --parallel")
        self.assertLessEqual(max(jobs for _, jobs in seen), 2 * 4, "no more than two readings of the figures, one after the other")
        vectors = [one["embedding"] for one in whole.json["data"]]
        for i in (0, 3, 4, 100, 199):
            alone = self.server.post("/v1/embeddings", {"input": texts[i]}).json["data"][0]["embedding"]
            self.assertEqual(vectors[i], alone, "in their order, and what each is alone")
        self.wait_until(lambda: self.server.metric("puna_places_taken") == 0, 5)


class EndTest(unittest.TestCase):
    wait_until = ModelsTest.wait_until

    def test_answers_are_ended_first(self):
        server = RunningServer("--drain", str(PATIENCE))
        answers = []
        body = {**LONG, "messages": CAPITAL}
        readers = [threading.Thread(target=lambda: answers.append(server.stream_bytes(CHAT, body))) for _ in range(3)]
        idle = server.connection()
        idle.request("GET", "/health")
        idle.getresponse().read()
        for reader in readers:
            reader.start()
        self.wait_until(lambda: server.metric("puna_answers_running") == 3, 10)
        server.process.send_signal(signal.SIGTERM)
        for reader in readers:
            reader.join()
        self.assertEqual(server.process.wait(PATIENCE / 6), 0)
        idle.close()
        self.assertEqual(len(answers), 3)
        for answer in answers:
            self.assertIn(joined(check_stream(answer, "chat_completion_chunk"))[2], ("stop", "length"))
        self.assertNotIn("cut off", server.log())
        server.stop()

    def test_no_new_ones_are_taken_meanwhile(self):
        server = RunningServer()
        busy, asking = threading.Thread(target=lambda: server.stream_bytes(CHAT, LONG)), server.connection()
        busy.start()
        self.wait_until(lambda: server.metric("puna_answers_running") == 1, 10)
        server.process.send_signal(signal.SIGTERM)
        with self.assertRaises(OSError):
            while server.process.poll() is None:
                server.get("/ready")
        asking.close()
        busy.join()
        self.assertEqual(server.stop(), 0)

    def test_schemas_that_would_take_for_ever_hold_nobody(self):
        schema = {"allOf": [{"anyOf": [False, False]}] + [{"anyOf": [{}, {}]}] * 40}
        shaped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        server = RunningServer()
        for answer in in_parallel(4, lambda i: server.post(CHAT, {"messages": CAPITAL, "response_format": shaped})):
            self.assertEqual(answer.status, 400, answer.text)
            self.assertIn("takes more than", answer.text)
        self.assertEqual(server.post(CHAT, {"messages": CAPITAL, "max_tokens": 1}).status, 200)
        self.assertEqual(server.stop(), 0)

    def test_control_c_ends_it_as_well(self):
        server = RunningServer()
        self.assertEqual(server.stop(signal.SIGINT), 0)


if __name__ == "__main__":
    unittest.main()
