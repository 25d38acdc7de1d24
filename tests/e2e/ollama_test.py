# SPDX-License-Identifier: Apache-2.0
"""Ollama's API of puna serve: answers, models that are loaded, pulled, copied and deleted, and names that lead somewhere else.
PUNA is the program's path."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.request

import fake_hub
from running_server import PUNA, RunningServer, in_parallel

NANO = os.path.join(os.path.dirname(__file__), "..", "..", "models", "nano", "nano.gguf")
with open(os.path.join(os.path.dirname(__file__), "..", "..", "recipes", "nano", "tools.json")) as tools_file:
    TOOLS = json.load(tools_file)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
GREEDY = {"temperature": 0, "num_predict": 24}


def evil_names():
    names = ["..", "../..", "../../etc/passwd", "/etc/passwd", "a/../b", "a/..", "./a/b", "a/./b", "a//b", "/a/b", "a/b/", "a\\b",
             "..\\..\\windows", "C:\\a", "C:/a", "\\\\host\\share", "~/a", "~root/a", "$HOME/a", "a/$(id)", "a/`id`", "a/b;id", "a/b|id",
             "a/b&id", "a b/c", "a/b c", " a/b", "a/b ", "%2e%2e/a", "a/%2e%2e%2f", "..%2f..%2fa", "%00", "a/b%00", "file:///etc/passwd",
             "http://127.0.0.1/a", "https://a/b", "ftp://a/b", "hf://a/b", "a/b?x", "a/b#x", "a/*", "*", "?", "[a]/b", "{a,b}/c",
             "a/b:../c", "a/b:/etc/passwd", "a/b:..", "a/b:.", "a/b:c/../d", "a/b:c//d", "a/b:c\\d", "a/b:c:d", "a/b:", ":", "a:", "/",
             "//", ".", "...", "a/.b", ".a/b", "a/b.", "-a/b", "a/-b", "a-/b", "a/b-", "a--b/c", "a/b--c", "models--a--b", ".locks",
             "a/.locks", "refs/main/..", "blobs/../..", "a/b\x00c", "a/b\x00", "\x00", "a\nb/c", "a/b\n", "a/\tb", "a/\x7fb", "a/\u202eb",
             "a/\u2025", "\u2024\u2024/a", "\uff0e\uff0e/a", "a\u2215b", "a\uff0fb", "a/\u00e9", "a/\U0001f600", "con/..", "nul\\a",
             "a/b:\x01", "a/b:\x7f", "a" * 4096, "a/" + "b" * 97, "a" * 97 + "/b", "a/b:" + "c" * 4096, "../" * 100 + "etc/passwd",
             "a/" * 50 + "b", "hf.co/../a", "hf.co//etc/passwd", "hf.co/hf.co/..", "huggingface.co/../../a", "..:latest", "../a:latest",
             "/etc/passwd:latest", "a/..:latest", ":latest", "hf.co/", "proc/self/environ/..", "/proc/self/environ", "/dev/stdin"]
    names += ["a/b" + chr(c) for c in range(1, 32)]
    names += [chr(c) + "/b" for c in b"!\"#$%&'()*+,;<=>?@[]^`{|}"]
    return names


class OllamaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer("nano")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def post(self, path, **body):
        return self.server.post("/api/" + path, body)

    def lines(self, path, **body):
        answer = self.post(path, **body)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.headers["content-type"], "application/x-ndjson")
        self.assertTrue(answer.text.endswith("\n"))
        return [json.loads(line) for line in answer.text.splitlines()]

    def refused(self, status, part, path, **body):
        answer = self.post(path, **body)
        self.assertEqual(answer.status, status, answer.text)
        self.assertEqual(list(answer.json), ["error"])
        self.assertIn(part, answer.json["error"])

    def check_end(self, last):
        self.assertTrue(last["done"])
        self.assertIn(last["done_reason"], ("stop", "length"))
        for name in DURATIONS:
            self.assertIsInstance(last[name], int)
        self.assertGreater(last["total_duration"], last["eval_duration"])
        self.assertGreater(last["eval_duration"], 1000)  # nanoseconds, not milliseconds
        self.assertLess(last["total_duration"], 60 * 10**9)
        self.assertGreater(last["prompt_eval_count"], 0)
        self.assertGreater(last["eval_count"], 0)

    def test_chat_streams_unless_it_is_told_not_to(self):
        body = {"model": "nano", "messages": [{"role": "user", "content": "Hello"}], "options": GREEDY}
        lines = self.lines("chat", **body)
        self.assertGreater(len(lines), 2)
        for line in lines:
            self.assertEqual(line["model"], "nano")
            self.assertRegex(line["created_at"], TIME)
            self.assertEqual(line["message"]["role"], "assistant")
        self.assertFalse(any(line["done"] for line in lines[:-1]))
        self.check_end(lines[-1])
        whole = self.post("chat", **body, stream=False)
        self.assertEqual(whole.headers["content-type"], "application/json")
        self.assertEqual(whole.json["message"]["content"], "".join(line["message"]["content"] for line in lines))
        self.check_end(whole.json)

    def test_generate_streams_the_same(self):
        body = {"model": "nano", "prompt": "What is the capital of France?", "options": GREEDY}
        lines = self.lines("generate", **body)
        self.check_end(lines[-1])
        text = "".join(line["response"] for line in lines)
        self.assertEqual(self.post("generate", **body, stream=False).json["response"], text)
        chat = self.post("chat", model="nano", messages=[{"role": "user", "content": body["prompt"]}], options=GREEDY, stream=False)
        self.assertEqual(chat.json["message"]["content"], text)

    def test_a_raw_prompt_is_written_as_it_is(self):
        plain = self.post("generate", model="nano", prompt="Hello", options=GREEDY, stream=False).json
        raw = self.post("generate", model="nano", prompt="Hello", raw=True, options=GREEDY, stream=False).json
        self.assertLess(raw["prompt_eval_count"], plain["prompt_eval_count"])
        completion = self.server.post("/v1/completions", {"model": "nano", "prompt": "Hello", "temperature": 0, "max_tokens": 24}).json
        self.assertEqual(raw["response"], completion["choices"][0]["text"])
        self.refused(400, "system", "generate", model="nano", prompt="x", raw=True, system="y")

    def test_a_name_may_have_ollamas_tag(self):
        for name in ("nano:latest", "hf.co/nano"):
            self.assertEqual(self.post("generate", model=name, prompt="Hi", options=GREEDY, stream=False).json["model"], name)
        self.refused(404, "model 'absent' not found, try pulling it first", "generate", model="absent", prompt="x")
        self.refused(404, "not found", "chat", model=":latest", messages=[])
        self.refused(400, "missing", "chat", messages=[])

    def test_an_empty_request_loads_and_unloads(self):
        def loaded():
            return [model["name"] for model in self.server.get("/api/ps").json["models"]]

        answer = self.post("chat", model="nano", messages=[], stream=False).json
        self.assertEqual((answer["done"], answer["done_reason"], answer["message"]["content"]), (True, "load", ""))
        self.assertEqual(loaded(), ["nano"])
        self.assertEqual(self.lines("generate", model="nano", keep_alive=0)[-1]["done_reason"], "unload")
        self.assertEqual(loaded(), [])
        self.assertEqual(self.post("generate", model="nano", prompt="", stream=False).json["done_reason"], "load")
        self.assertEqual(loaded(), ["nano"])

    def test_no_stops_are_an_empty_list(self):
        self.assertEqual(self.post("generate", model="nano", prompt="a", stream=False, options={"stop": [], "num_predict": 2}).json["done"], True)
        self.refused(400, "stop", "generate", model="nano", prompt="a", options={"stop": ""})

    def test_keep_alive_says_when_a_model_goes(self):
        self.post("generate", model="nano", keep_alive="10m", stream=False)
        expires = self.server.get("/api/ps").json["models"][0]["expires_at"]
        self.assertRegex(expires, TIME)
        self.assertFalse(expires.startswith("9999"))
        self.post("generate", model="nano", keep_alive=-1, stream=False)
        self.assertTrue(self.server.get("/api/ps").json["models"][0]["expires_at"].startswith("9999"))
        self.refused(400, "keep_alive", "generate", model="nano", keep_alive="soon")

    def test_a_format_is_followed(self):
        schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
                  "additionalProperties": False}
        body = {"model": "nano", "messages": [{"role": "user", "content": "Name a city."}], "options": {"temperature": 1, "seed": 4}}
        answer = json.loads(self.post("chat", **body, format=schema, stream=False).json["message"]["content"])
        self.assertEqual(list(answer), ["city"])
        self.assertLessEqual(len(answer["city"]), 12)
        text = "".join(line["response"] for line in self.lines("generate", model="nano", prompt="A list.", options={"seed": 1},
                                                                format={"type": "array", "items": {"type": "integer"}, "maxItems": 3}))
        self.assertLessEqual(len(json.loads(text)), 3)
        self.refused(400, "format", "chat", **body, format="yaml")

    def test_tools_are_called_with_objects(self):
        messages = [{"role": "user", "content": "What is 12 * 7?"}]
        whole = self.post("chat", model="nano", messages=messages, tools=TOOLS, options={"temperature": 0}, stream=False).json
        call = whole["message"]["tool_calls"][0]["function"]
        self.assertEqual(call["name"], "calculator")
        self.assertIsInstance(call["arguments"], dict)
        lines = self.lines("chat", model="nano", messages=messages, tools=TOOLS, options={"temperature": 0})
        told = [line["message"]["tool_calls"] for line in lines if "tool_calls" in line["message"]]
        self.assertEqual([calls[0]["function"] for calls in told], [call])
        messages += [whole["message"], {"role": "tool", "tool_name": "calculator", "content": "84"}]
        final = self.post("chat", model="nano", messages=messages, tools=TOOLS, options={"temperature": 0}, stream=False)
        self.assertEqual(final.status, 200, final.text)
        self.assertIn("84", final.json["message"]["content"])

    def test_log_probabilities_are_told(self):
        answer = self.post("generate", model="nano", prompt="Hello", options=GREEDY, logprobs=True, top_logprobs=2, stream=False).json
        self.assertEqual(len(answer["logprobs"]), answer["eval_count"])
        for token in answer["logprobs"]:
            self.assertLessEqual(token["logprob"], 0)
            self.assertEqual(len(token["top_logprobs"]), 2)
        self.refused(400, "top_logprobs", "generate", model="nano", prompt="x", top_logprobs=2)

        lines = self.lines("generate", model="nano", prompt="Hello", options=GREEDY, logprobs=True, top_logprobs=2)
        self.assertEqual(sum((line.get("logprobs", []) for line in lines), []), answer["logprobs"])

    def test_texts_are_embedded(self):
        answer = self.post("embed", model="nano", input=["Hello", "Good night"], truncate=True).json
        openai = self.server.post("/v1/embeddings", {"model": "nano", "input": ["Hello", "Good night"]}).json
        self.assertEqual(answer["embeddings"], [one["embedding"] for one in openai["data"]])
        self.assertEqual(answer["prompt_eval_count"], openai["usage"]["prompt_tokens"])
        self.assertAlmostEqual(sum(x * x for x in answer["embeddings"][0]), 1, places=4)
        old = self.post("embeddings", model="nano", prompt="Hello").json["embedding"]
        length = sum(x * x for x in old) ** 0.5
        for one, other in zip(old, answer["embeddings"][0]):
            self.assertAlmostEqual(one / length, other, places=4)
        self.assertEqual(self.post("embed", model="nano", input=[]).json["embeddings"], [])
        self.assertEqual(self.post("embed", model="nano", input="Hello").json["embeddings"], answer["embeddings"][:1])
        self.refused(400, "1024", "embed", model="nano", input="word " * 3000, truncate=True)
        self.refused(400, "dimensions", "embed", model="nano", input="x", dimensions=7)
        self.refused(400, "input", "embed", model="nano", input=[1, 2])
        self.refused(404, "not found", "embed", model="absent", input="x")

    def test_options_do_what_they_say(self):
        def answer(**options):
            return self.post("generate", model="nano", prompt="Tell me a story.", options=options, stream=False).json

        self.assertEqual(answer(num_predict=3)["eval_count"], 3)
        self.assertEqual(answer(num_predict=3)["done_reason"], "length")
        self.assertEqual(answer(seed=7, temperature=1)["response"], answer(seed=7, temperature=1)["response"])
        self.assertNotEqual(answer(seed=7, temperature=1.5)["response"], answer(seed=8, temperature=1.5)["response"])
        whole = answer(temperature=0)["response"]
        self.assertEqual(answer(temperature=0, stop=whole[3:6])["response"], whole[:whole.index(whole[3:6])])
        without_effect = {"num_keep": 4, "num_batch": 512, "num_gpu": 1, "main_gpu": 0, "use_mmap": True, "num_thread": 2, "num_ctx": 512}
        self.assertEqual(answer(temperature=0, **without_effect)["response"], whole)

    def test_what_cannot_be_done_is_refused_by_name(self):
        chat = {"model": "nano", "messages": [{"role": "user", "content": "x"}]}
        for part, field in (("images", {"images": ["aGk="]}), ("template", {"template": "{{ .Prompt }}"}), ("thinking", {"think": True}),
                            ("no_such", {"no_such": 1}), ("options.no_such", {"options": {"no_such": 1}}),
                            ("options.num_ctx", {"options": {"num_ctx": 2048}}), ("1024", {"options": {"num_ctx": 2048}}),
                            ("options.temperature", {"options": {"temperature": -1}}), ("options.top_k", {"options": {"top_k": 1.5}}),
                            ("options.num_predict", {"options": {"num_predict": -3}}), ("options.seed", {"options": {"seed": "7"}}),
                            ("stream", {"stream": "yes"}), ("messages[0]", {"messages": ["x"]}),
                            ("messages[0].role", {"messages": [{"role": "boss", "content": "x"}]}),
                            ("images", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
                            ("messages[0].content", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]})):
            with self.subTest(field):
                self.refused(400, part, "chat", **{**chat, **field})
        for part, field in (("suffix", {"suffix": "x"}), ("context", {"context": [1, 2]}), ("tools", {"tools": []})):
            self.refused(400, part, "generate", model="nano", prompt="x", **field)
        accepted = {"think": False, "truncate": True, "shift": False, "images": [], "template": "", "format": "", "options": None}
        self.assertEqual(self.post("generate", model="nano", prompt="x", stream=False, **{**accepted, "options": GREEDY}).status, 200)

    def test_a_prompt_that_does_not_fit_is_refused_before_the_answer_begins(self):
        self.refused(400, "1024", "chat", model="nano", messages=[{"role": "user", "content": "word " * 3000}], truncate=True)

    def test_every_field_refuses_what_it_is_not(self):
        fields = ("model", "messages", "tools", "format", "options", "stream", "keep_alive", "think", "truncate", "shift", "logprobs",
                  "top_logprobs", "images", "template")
        options = ("num_keep", "seed", "num_predict", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "temperature",
                   "repeat_penalty", "presence_penalty", "frequency_penalty", "stop", "num_ctx", "num_batch", "num_gpu", "main_gpu",
                   "use_mmap", "num_thread")
        good = {"model": "nano", "messages": [{"role": "user", "content": "x"}]}
        numbers = {"num_keep", "seed", "num_predict", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "temperature", "repeat_penalty",
                   "presence_penalty", "frequency_penalty", "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"}
        bodies = [{**good, name: wrong} for name in fields for wrong in (3.5e18, {"x": [1]}, [[1]], "\u0000" * 9)
                  if not (name in ("tools", "messages", "images") and wrong == [])
                  and not (name == "format" and isinstance(wrong, dict)) and not (name == "keep_alive" and wrong == 3.5e18)]
        bodies += [{**good, "options": {name: wrong}} for name in options for wrong in ({"x": 1}, [[1]], 2**63, -2**63 - 1, "x" * 2000)
                   if not (name == "seed" and wrong == 2**63)]
        bodies += [{**good, "options": {name: True}} for name in numbers]
        answers = in_parallel(4, lambda part: [(body, self.server.post("/api/chat", body)) for body in bodies[part::4]])
        for body, answer in sum(answers, []):
            self.assertIn(answer.status, (400, 404), (str(body)[:200], answer.status, answer.text[:300]))

    def test_models_are_described(self):
        tags = self.server.get("/api/tags").json["models"]
        self.assertEqual([model["name"] for model in tags], ["nano"])
        self.assertRegex(tags[0]["digest"], "^[0-9a-f]{64}$")
        self.assertEqual(tags[0]["size"], os.path.getsize(NANO))
        shown = self.post("show", model="nano").json
        self.assertEqual(shown["model_info"]["general.architecture"], "llama")
        self.assertEqual(shown["details"]["format"], "gguf")
        self.assertIn("completion", shown["capabilities"])
        self.assertNotIn(os.sep + "tests", json.dumps(shown))
        self.assertEqual(self.post("show", name="nano:latest").json["model_info"], shown["model_info"])
        self.assertRegex(self.server.get("/api/version").json["version"], r"^\d+\.\d+")
        self.refused(404, "not found", "show", model="absent")

    def test_copies_are_second_names(self):
        self.assertEqual(self.post("copy", source="nano", destination="team/small:v1").status, 200)
        self.assertEqual(self.post("generate", model="team/small:v1", prompt="Hi", options=GREEDY, stream=False).status, 200)
        self.refused(409, "there already", "copy", source="team/small:v1", destination="nano")
        self.assertEqual(self.server.request("DELETE", "/api/delete", {"model": "team/small:v1"}).status, 200)
        self.refused(404, "not found", "show", model="team/small:v1")
        answer = self.server.request("DELETE", "/api/delete", {"model": "nano"})
        self.assertEqual(answer.status, 403, answer.text)

    def test_a_model_may_be_deleted_while_it_is_loaded(self):
        chat = {"model": "fleeting", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
        for i in range(12):
            self.assertEqual(self.post("copy", source="nano", destination="fleeting").status, 200)
            answers = in_parallel(2, lambda k: self.server.post("/v1/chat/completions", chat) if k == 0 else
                                  self.server.request("DELETE", "/api/delete", {"model": "fleeting"}))
            self.assertIn(answers[0].status, (200, 404), answers[0].text)
            self.assertEqual(answers[1].status, 200, answers[1].text)
        self.assertEqual(self.server.get("/health").status, 200)


class StoreTest(unittest.TestCase):
    def setUp(self):
        with open(NANO, "rb") as file:
            nano = file.read()
        self.hub = fake_hub.Hub({
            "org/one": fake_hub.Repository({"README.md": b"", "one-Q8_0.gguf": nano}),
            "org/two": fake_hub.Repository({"two-Q8_0.gguf": nano, "two-Q4_K_M.gguf": nano}),
            "org/broken": fake_hub.Repository({"broken.gguf": b"GGUF\x03\0\0\0" + b"\xff" * 64}),
            "org/gated": fake_hub.Repository({"gated.gguf": nano}, gated=True),
        })
        self.addCleanup(self.hub.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name

    def start(self, *arguments, **extra):
        environment = {"HF_HOME": self.home, "HF_ENDPOINT": self.hub.endpoint, "HF_TOKEN": "", "no_proxy": "*", **extra}
        server = RunningServer(*arguments, env=environment)
        self.addCleanup(server.stop)
        return server

    def pull(self, server, name, **fields):
        return server.post("/api/pull", {"model": name, **fields})

    def names(self, server):
        return sorted(model["name"] for model in server.get("/api/tags").json["models"])

    def test_a_model_is_pulled_asked_and_deleted(self):
        server = self.start("nano")
        answer = self.pull(server, "hf.co/org/one:latest")
        self.assertEqual(answer.status, 200, answer.text)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        self.assertEqual(lines[0]["status"], "pulling manifest")
        self.assertEqual(lines[-1], {"status": "success"})
        told = [line for line in lines if "completed" in line]
        self.assertEqual(told[-1]["completed"], told[-1]["total"])
        self.assertRegex(told[-1]["digest"], "^sha256:[0-9a-f]{64}$")
        self.assertEqual([line["completed"] for line in told], sorted(line["completed"] for line in told))
        self.assertEqual(self.names(server), ["nano", "org/one"])
        answer = server.post("/api/generate", {"model": "org/one", "prompt": "Hi", "options": GREEDY, "stream": False})
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(server.request("DELETE", "/api/delete", {"model": "org/one"}).status, 200)
        self.assertEqual(self.names(server), ["nano"])
        self.assertFalse(os.path.exists(os.path.join(self.home, "hub", "models--org--one")))

    def test_files_go_with_their_last_name(self):
        server = self.start("nano")
        for type_name in ("Q8_0", "Q4_K_M"):
            self.assertEqual(self.pull(server, "org/two:" + type_name, stream=False).json, {"status": "success"})
        server.post("/api/copy", {"source": "org/two:Q8_0", "destination": "other"})
        for name in ("org/two:Q8_0", "org/two:Q4_K_M", "other"):
            self.assertTrue(os.path.exists(os.path.join(self.home, "hub", "models--org--two")), name)
            self.assertEqual(server.request("DELETE", "/api/delete", {"model": name}).status, 200)
        self.assertFalse(os.path.exists(os.path.join(self.home, "hub", "models--org--two")))

    def test_what_was_pulled_is_there_after_a_restart(self):
        server = self.start("nano")
        for name in ("org/one", "org/two:Q8_0", "org/two:Q4_K_M"):
            self.assertEqual(self.pull(server, name, stream=False).status, 200)
        server.stop()
        environment = {**os.environ, "HF_HOME": self.home, "HF_TOKEN": ""}
        again = subprocess.Popen([PUNA, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            with urllib.request.urlopen(again.stdout.readline().strip() + "/api/tags", timeout=30) as answer:
                names = [model["name"] for model in json.load(answer)["models"]]
        finally:
            again.terminate()
            again.wait(60)
            again.stdout.close()
        self.assertEqual(names, ["org/one", "org/two:Q4_K_M", "org/two:Q8_0", "nano"])

    def test_a_hub_that_refuses_is_told_with_a_status(self):
        server = self.start("nano")
        for name, status in (("org/absent", (404, 502)), ("org/gated", (404, 502)), ("org/two", (400,)), ("org/one:no_such", (404,))):
            answer = self.pull(server, name)
            self.assertIn(answer.status, status, (name, answer.text))
            self.assertNotIn(self.home, answer.text)
        self.assertEqual(self.names(server), ["nano"])

    def test_a_broken_model_is_no_models_end(self):
        server = self.start("nano")
        self.assertEqual(self.pull(server, "org/broken", stream=False).status, 200)
        for path, body in (("show", {}), ("generate", {"prompt": "x"})):
            answer = server.post("/api/" + path, {"model": "org/broken", **body})
            self.assertEqual(answer.status, 500)
            self.assertNotIn(self.home, answer.text)
        self.assertEqual(server.get("/health").status, 200)

    def test_wrong_bytes_are_no_model(self):
        server = self.start("nano")
        self.hub.faults.corrupt = {"one-Q8_0.gguf"}
        last = json.loads(self.pull(server, "org/one").text.splitlines()[-1])
        self.assertIn("error", last)
        self.assertNotIn(self.home, last["error"])
        self.assertEqual(self.names(server), ["nano"])

    def test_managing_needs_a_key_that_may(self):
        keys = os.path.join(self.home, "keys")
        with open(keys, "w") as file:
            file.write("infer infer-key-0123456789\nmanage manage-key-0123456789\n")
        server = self.start("nano", "--api-key-file", keys)
        headers = {"Authorization": "Bearer infer-key-0123456789"}
        self.assertEqual(server.get("/api/tags", headers).status, 200)
        for method, path, body in (("POST", "pull", {"model": "org/one"}), ("POST", "copy", {"source": "nano", "destination": "x"}),
                                   ("DELETE", "delete", {"model": "nano"})):
            self.assertEqual(server.request(method, "/api/" + path, body, headers).status, 403, path)
            self.assertEqual(server.request(method, "/api/" + path, body).status, 401, path)
        self.assertEqual(self.names_with(server, "manage-key-0123456789"), ["nano"])

    def names_with(self, server, key):
        return [model["name"] for model in server.get("/api/tags", {"Authorization": "Bearer " + key}).json["models"]]

    # All files that the server names to the system while `ask` runs.
    def files_named(self, server, ask):
        with tempfile.NamedTemporaryFile("r") as calls:
            tracer = subprocess.Popen(["strace", "-f", "-qq", "-s", "8192", "-e", "trace=%file", "-o", calls.name, "-p", str(server.process.pid)],
                                      stderr=subprocess.PIPE, text=True)
            try:
                answered = 0
                while "openat" not in calls.read():  # until it watches
                    if tracer.poll() is not None:
                        self.skipTest("strace may not watch here: " + tracer.stderr.read())
                    answered += server.get("/puna/runs").status == 200
                    calls.seek(0)
                ask()
            finally:
                tracer.terminate()
                tracer.wait(60)
                tracer.stderr.close()
            calls.seek(0)
            return set(re.findall(r'"((?:[^"\\\\]|\\\\.)*)"', calls.read()))

    def test_no_name_leads_out_of_the_store(self):
        server = self.start("nano")
        before = sorted(os.walk(self.home))
        requests = len(self.hub.requests)
        for name in evil_names():
            self.refuse_everywhere(server, name)
        self.assertGreaterEqual(len(evil_names()), 150)
        self.assertEqual(sorted(os.walk(self.home)), before, "nothing was made in the store")
        self.assertEqual(len(self.hub.requests), requests, "the hub was asked for none of them")
        self.assertEqual(server.get("/health").status, 200)

    @unittest.skipUnless(shutil.which("strace"), "needs strace")
    def test_no_name_is_looked_for_outside_of_the_store(self):
        runs = os.path.join(self.home, "runs")
        os.mkdir(runs)
        server = self.start("nano", "--runs", runs)
        named = self.files_named(server, lambda: [self.refuse_everywhere(server, name) for name in evil_names()])
        self.assertIn(runs, named, "it was watched")
        self.assertEqual({path for path in named if path and not path.startswith(self.home)}, set())
        self.assertFalse([path for path in named if ".." in path])

    def refuse_everywhere(self, server, name):
        for method, path, body in (("POST", "pull", {"model": name}), ("POST", "show", {"model": name}),
                                   ("DELETE", "delete", {"model": name}), ("POST", "copy", {"source": name, "destination": "x"}),
                                   ("POST", "copy", {"source": "nano", "destination": name})):
            if body.get("destination") == name and re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/?)*", name):
                continue  # a name that the hub would not have, but a second name may: it becomes no path
            answer = server.request(method, "/api/" + path, body)
            self.assertIn(answer.status, (400, 404), (path, name, answer.text))
        for model in (name, "base:" + name, name + ":adapter"):
            answer = server.post("/v1/completions", {"model": model, "prompt": "x"})
            self.assertIn(answer.status, (400, 404), (model, answer.text))


if __name__ == "__main__":
    unittest.main()
