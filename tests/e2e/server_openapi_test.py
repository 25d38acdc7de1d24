# SPDX-License-Identifier: Apache-2.0
"""What the server says of its answers at /openapi.json, against its answers: of every path that has JSON to say."""

import json
import os
import re
import tempfile
import unittest

from running_server import RunningServer
from shapes import check_schema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
with open(os.path.join(ROOT, "recipes", "nano", "tools.json")) as file:
    TOOLS = json.load(file)
USER = [{"role": "user", "content": "Hello"}]
SUM = [{"role": "user", "content": "What is 127 * 34?"}]
VOTE = {"prompt": USER, "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}],
        "winner": "a"}
GREEDY = {"temperature": 0, "max_tokens": 24}
# Requests for each path. Those with "stream" are sent again with true; a path that others begin with is in all of them.
OLLAMA = {"model": "nano", "stream": False, "options": {"num_predict": 24, "temperature": 0}}
POSTS = {
    "/v1/chat/completions": [{"messages": USER, **GREEDY}, {"messages": SUM, "tools": TOOLS, **GREEDY, "max_tokens": 100},
                             {"messages": USER, "logprobs": True, "top_logprobs": 2, "n": 2, **GREEDY},
                             {"messages": USER, "temperature": 0, "max_tokens": 1}],
    "/v1/completions": [{"prompt": "Once", "max_tokens": 4}, {"prompt": ["Once", "Two"], "max_tokens": 4, "echo": True, "logprobs": 2}],
    "/v1/responses": [{"input": "Hello", "max_output_tokens": 24, "temperature": 0}, {"input": "Hello", "max_output_tokens": 16,
                      "include": ["message.output_text.logprobs"], "top_logprobs": 2, "instructions": "Be kind.", "metadata": {"a": "b"}},
                      {"input": SUM[0]["content"], "temperature": 0, "tools": [{"type": "function", **TOOLS[0]["function"]}]}],
    "/v1/messages": [{"messages": USER, **GREEDY}, {"messages": USER, "max_tokens": 2, "stop_sequences": ["x"]},
                     {"messages": SUM, **GREEDY, "max_tokens": 100, "tools": [
                         {"name": tool["function"]["name"], "description": tool["function"]["description"],
                          "input_schema": tool["function"]["parameters"]} for tool in TOOLS]}],
    "/v1/messages/count_tokens": [{"messages": USER}],
    "/v1/embeddings": [{"input": ["a", "b"]}, {"input": "a", "encoding_format": "base64"}],
    "/v1/rerank": [{"query": "What?", "documents": ["This.", "That."]}, {"query": "?", "documents": ["a"], "return_documents": True}],
    "/v2/rerank": [{"query": "What?", "documents": ["This.", "That."]}],
    "/rerank": [{"query": "What?", "documents": ["This.", "That."]}],
    "/tokenize": [{"content": "Hello"}, {"content": "Hello", "with_pieces": True}],
    "/detokenize": [{"tokens": [5, 6]}],
    "/apply-template": [{"messages": USER}],
    "/api/chat": [{**OLLAMA, "messages": USER}, {**OLLAMA, "messages": SUM, "tools": TOOLS, "options": {"temperature": 0}},
                  {**OLLAMA, "messages": USER, "logprobs": True, "top_logprobs": 2}, {**OLLAMA, "messages": []}],
    "/api/generate": [{**OLLAMA, "prompt": "Once"}, {**OLLAMA, "prompt": "Once", "logprobs": True}, {**OLLAMA, "prompt": ""}],
    "/api/embed": [{"model": "nano", "input": ["a", "b"]}],
    "/api/embeddings": [{"model": "nano", "prompt": "a"}, {"model": "nano", "prompt": ""}],
    "/api/show": [{"model": "nano"}],
    "/puna/votes": [VOTE],
    "/puna/unload": [{"model": "second"}],
}
GETS = {"/health": "/health", "/ready": "/ready", "/v1/models": "/v1/models", "/v1/models/{name}": "/v1/models/nano",
        "/api/tags": "/api/tags", "/api/ps": "/api/ps", "/api/version": "/api/version", "/puna/props": "/puna/props",
        "/puna/runs": "/puna/runs", "/puna/runs/{name}/metrics": "/puna/runs/first/metrics", "/puna/votes": "/puna/votes"}
NOT_ASKED = {("/api/pull", "post"), ("/puna/stop", "post")}  # one wants a hub, the other is the end


class OpenApiTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        os.makedirs(os.path.join(cls.folder.name, "runs", "first"))
        with open(os.path.join(cls.folder.name, "runs", "first", "metrics.jsonl"), "w") as file:
            file.write('{"step": 1, "loss": 2.5}\n')
        cls.server = RunningServer("nano", "second=nano", "--runs", os.path.join(cls.folder.name, "runs"),
                                   "--votes", os.path.join(cls.folder.name, "votes.jsonl"))
        cls.document = cls.server.get("/openapi.json").json
        cls.schemas = cls.document["components"]["schemas"]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()

    def content(self, path, method, status="200"):
        return self.document["paths"][path][method]["responses"][status].get("content", {})

    def check(self, value, path, method, kind="application/json", status="200"):
        check_schema(value, self.content(path, method, status)[kind]["schema"], self.schemas, "%s %s" % (method, path))

    def test_whole_answers(self):
        said = {(path, method) for path, methods in self.document["paths"].items() for method in methods
                if self.content(path, method)}
        self.assertEqual(said, {(path, "post") for path in POSTS} | {(path, "get") for path in GETS} | NOT_ASKED)
        for path, bodies in POSTS.items():
            for body in bodies:
                answer = self.server.post(path, body)
                self.assertEqual(answer.status, 200, (path, answer.text))
                self.check(answer.json, path, "post")
        for path, asked in GETS.items():
            answer = self.server.get(asked)
            self.assertEqual(answer.status, 200, answer.text)
            self.check(answer.json, path, "get")

    def test_streamed_answers(self):
        streams = {path for path in self.document["paths"] if len(self.content(path, "post" if "post" in self.document["paths"][path]
                                                                               else next(iter(self.document["paths"][path])))) == 2}
        self.assertEqual(streams - {"/api/pull"}, {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
                                                   "/api/chat", "/api/generate"})
        for path in sorted(streams - {"/api/pull"}):
            kind = next(kind for kind in self.content(path, "post") if kind != "application/json")
            for body in POSTS[path]:
                response = self.server.post(path, {**body, "stream": True})
                self.assertEqual(response.status, 200, response.text)
                lines = [line for line in response.text.splitlines() if line.startswith(("data: {", "{"))]
                self.assertTrue(lines)
                for line in lines:
                    self.check(json.loads(line.removeprefix("data: ")), path, "post", kind)

    def test_refusals(self):
        for path, methods in self.document["paths"].items():
            for method in methods:
                if "requestBody" not in methods[method]:
                    continue
                answer = self.server.request(method.upper(), path, {"no such field": 1})
                self.assertIn(answer.status, (400, 404), (path, answer.text))
                self.check(answer.json, path, method, status="default")

    def test_another_answer_is_not_taken_for_one(self):
        answer = self.server.post("/tokenize", {"content": "Hello"}).json
        self.check(answer, "/tokenize", "post")
        for wrong in ({}, {**answer, "more": 1}, {"tokens": ["Hello"]}, {"tokens": None}):
            with self.assertRaises(AssertionError):
                self.check(wrong, "/tokenize", "post")

    # Names that lead nowhere, and schemas that nobody asks for.
    def test_every_schema_has_its_place(self):
        names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(self.document))
        self.assertEqual(set(names), set(self.schemas))


if __name__ == "__main__":
    unittest.main()
