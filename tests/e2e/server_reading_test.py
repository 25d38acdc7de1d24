# SPDX-License-Identifier: Apache-2.0
"""What `puna serve` only reads: embeddings, documents in the order of a query, log-probabilities of prompts; and what it has, as an
OpenAPI document. PUNA is the program's path."""

import base64
import json
import math
import struct
import subprocess
import unittest

from running_server import PUNA, RunningServer, in_parallel

TEXT = "The capital of France is Paris."


class ReadingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer("--batch-invariant")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def post(self, path, **body):
        response = self.server.post(path, body)
        self.assertEqual(response.status, 200, response.text)
        return response.json

    def refused(self, path, param, **body):
        response = self.server.post(path, body)
        self.assertEqual(response.status, 400, (body, response.text))
        self.assertEqual(response.json["error"]["param"], param)

    def embeddings(self, texts, **fields):
        answer = self.post("/v1/embeddings", input=texts, **fields)
        self.assertEqual([one["index"] for one in answer["data"]], list(range(len(answer["data"]))))
        return [one["embedding"] for one in answer["data"]]

    def test_embeddings_have_length_one_and_do_not_depend_on_company(self):
        texts = ["the cat", TEXT, "x " * 300]
        together = self.embeddings(texts)
        for embedding in together:
            self.assertAlmostEqual(sum(number * number for number in embedding), 1, places=5)
        self.assertEqual(in_parallel(3, lambda i: self.embeddings(texts[i])[0]), together)
        self.assertNotEqual(self.embeddings(TEXT, pooling="last")[0], together[1])

    def test_embeddings_as_base64_and_of_tokens(self):
        floats = self.embeddings(TEXT)[0]
        packed = base64.b64decode(self.embeddings([TEXT], encoding_format="base64")[0])
        for a, b in zip(struct.unpack("<%df" % len(floats), packed), floats):
            self.assertAlmostEqual(a, b, places=7)
        tokens = self.post("/tokenize", content=TEXT, add_special=True)["tokens"]
        self.assertEqual(self.embeddings(tokens)[0], floats)
        self.assertEqual(self.embeddings([tokens, tokens]), [floats, floats])
        answer = self.post("/v1/embeddings", input=[TEXT, TEXT], dimensions=len(floats))
        self.assertEqual(answer["usage"]["prompt_tokens"], 2 * len(tokens))

    def test_embedding_refusals(self):
        for param, body in (("input", {}), ("input", {"input": ""}), ("input", {"input": []}), ("input", {"input": [[]]}),
                            ("input", {"input": [1, "a"]}), ("input", {"input": [-1]}), ("input", {"input": [None]}),
                            ("input", {"input": "word " * 2000}), ("dimensions", {"input": "a", "dimensions": 3}),
                            ("encoding_format", {"input": "a", "encoding_format": "hex"}),
                            ("pooling", {"input": "a", "pooling": "max"}), ("stream", {"input": "a", "stream": True})):
            self.refused("/v1/embeddings", param, **body)

    def test_rerank_is_by_likelihood_of_the_query(self):
        documents = ["Rain is water.", TEXT, {"text": "Paris is the capital of France."}]
        query = "What is the capital of France?"
        answer = self.post("/v1/rerank", query=query, documents=documents, return_documents=True)
        scores = [result["relevance_score"] for result in answer["results"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(answer["results"][-1]["index"], 0)
        self.assertEqual({result["index"] for result in answer["results"]}, {0, 1, 2})
        self.assertEqual(answer["results"][-1]["document"], {"text": documents[0]})
        for path in ("/rerank", "/v2/rerank"):
            best = self.post(path, query=query, documents=documents, top_n=1)["results"]
            self.assertEqual(best, [{key: answer["results"][0][key] for key in ("index", "relevance_score")}])
        # The formula, with the log-probabilities that completions give.
        prompt = "Passage: Rain is water.\nQuestion:"
        count = len(self.post("/tokenize", content=prompt, add_special=True)["tokens"])
        tokens = (self.post("/tokenize", content=prompt, add_special=True)["tokens"] +
                  self.post("/tokenize", content=" " + query)["tokens"])
        logprobs = self.post("/v1/completions", prompt=tokens, echo=True, logprobs=0, max_tokens=0)["choices"][0]["logprobs"]
        of_query = logprobs["token_logprobs"][count:]
        self.assertAlmostEqual(scores[-1], math.exp(sum(of_query) / len(of_query)), places=6)

    def test_rerank_refusals(self):
        for param, body in (("query", {"documents": ["a"]}), ("documents", {"query": "q"}), ("query", {"query": "", "documents": ["a"]}),
                            ("documents", {"query": "q", "documents": []}), ("documents[0]", {"query": "q", "documents": [1]}),
                            ("documents[0].text", {"query": "q", "documents": [{}]}),
                            ("documents", {"query": "q", "documents": ["word " * 2000]}),
                            ("top_n", {"query": "q", "documents": ["a"], "top_n": 0})):
            self.refused("/v1/rerank", param, **body)

    def test_log_probabilities_of_a_prompt_are_those_of_score(self):
        choice = self.post("/v1/completions", prompt=TEXT, echo=True, logprobs=2, max_tokens=0)["choices"][0]
        self.assertEqual(choice["text"], TEXT)
        logprobs = choice["logprobs"]
        self.assertIsNone(logprobs["token_logprobs"][0])
        score = subprocess.run([PUNA, "score", "nano", "--text", TEXT, "--kv", "f16", "--json"], check=True, capture_output=True)
        expected = json.loads(score.stdout)["logprobs"]
        self.assertEqual(len(expected), len(logprobs["tokens"]))
        for found, wanted in zip(logprobs["token_logprobs"][1:], expected[1:]):
            self.assertAlmostEqual(found, wanted, places=4)
        for text, offset in list(zip(logprobs["tokens"], logprobs["text_offset"]))[1:]:
            self.assertTrue(TEXT[offset:].startswith(text), (text, offset))
        self.assertTrue(all(len(top) == 2 for top in logprobs["top_logprobs"][1:]))

    def test_log_probabilities_of_a_prompt_and_its_answer(self):
        body = {"prompt": "The capital of", "echo": True, "logprobs": 1, "max_tokens": 3, "temperature": 0, "n": 2}
        whole = self.post("/v1/completions", **body)["choices"]
        self.assertEqual(whole[0]["logprobs"], whole[1]["logprobs"])
        self.assertEqual(len(whole[0]["logprobs"]["tokens"]), 4 + 3)
        streamed = [{"text": "", "tokens": [], "token_logprobs": [], "text_offset": []} for _ in range(2)]
        for event in self.server.stream("/v1/completions", {**body, "stream": True}):
            for choice in event["choices"] if event != "[DONE]" else []:
                streamed[choice["index"]]["text"] += choice["text"]
                for name in ("tokens", "token_logprobs", "text_offset") if choice["logprobs"] else ():
                    streamed[choice["index"]][name] += choice["logprobs"][name]
        for one, other in zip(whole, streamed):
            self.assertEqual(one["text"], other["text"])
            for name in ("tokens", "token_logprobs", "text_offset"):
                self.assertEqual(one["logprobs"][name], other[name], name)

    def test_log_probabilities_come_with_their_texts(self):
        body = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "logprobs": True,
                "top_logprobs": 1}
        whole = self.post("/v1/chat/completions", **body)["choices"][0]["logprobs"]["content"]
        streamed = []
        for event in self.server.stream("/v1/chat/completions", {**body, "stream": True}):
            for choice in event["choices"] if event != "[DONE]" else []:
                if choice["logprobs"]:
                    self.assertEqual("".join(token["token"] for token in choice["logprobs"]["content"]), choice["delta"]["content"])
                    streamed += choice["logprobs"]["content"]
        self.assertEqual(streamed, whole)

    def test_the_openapi_document(self):
        document = self.server.get("/openapi.json").json
        self.assertEqual(document["openapi"], "3.1.0")
        schema = document["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        self.assertEqual(schema["required"], ["input"])
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if "parameters" in operation or path in ("/puna/stop", "/puna/unload"):
                    continue
                response = self.server.request(method.upper(), path, "{" if method == "post" else None)
                self.assertNotEqual(response.status, 405, path)
                self.assertFalse(response.status == 404 and response.json["error"]["code"] == "unknown_url", path)


if __name__ == "__main__":
    unittest.main()
