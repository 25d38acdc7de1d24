# SPDX-License-Identifier: Apache-2.0
"""Wrong requests: every field of every family with eight kinds of wrong values, and bytes that are no UTF-8 or no JSON. All are
refused with a 4xx that names the field, and the server goes on."""

import json
import os
import random
import tempfile
import unittest

from running_server import RunningServer
from shapes import check_shape

PLACE = "@@value@@"
NESTED = "[" * 10_000 + "]" * 10_000
LONG = '"' + "x" * 1_000_000 + '"'
WRONG = {  # by the kind of the field: what is wrong for it, as JSON's text
    "boolean": ["1", '"true"', "[]", "{}", "-1", "9223372036854775808", "1e999", '""', LONG, NESTED],
    "integer": ['"1"', "true", "[1]", "{}", "-9223372036854775809", "9223372036854775808", "1.5", "1e999", '""', LONG, NESTED],
    "number": ['"1"', "true", "[1]", "{}", "-1e300", "9223372036854775808", "1e999", '""', LONG, NESTED],
    "text": ["1", "true", "[]", "{}", "-1", "9223372036854775808", "1e999", LONG, NESTED],
    "list": ["1", "true", "{}", "-1", "9223372036854775808", "1e999", "[null]", "[[[]]]", NESTED],
    "object": ["1", "true", "[]", '"x"', "-1", "9223372036854775808", "1e999", '""', LONG, NESTED],
    "text or list": ["1", "true", "{}", "-1", "9223372036854775808", "1e999", "[null]", "[{}]", NESTED],
    "text or object": ["1", "true", "[]", "-1", "9223372036854775808", "1e999", LONG, NESTED],
}
NUMBERS = {"temperature": "number", "top_p": "number", "seed": "integer", "presence_penalty": "number", "frequency_penalty": "number"}
WRITING = {**NUMBERS, "model": "text", "top_k": "integer", "min_p": "number", "typical_p": "number", "repetition_penalty": "number",
           "logit_bias": "object", "stop": "text or list", "n": "integer", "stream": "boolean", "stream_options": "object",
           "user": "text", "grammar": "text", "regex": "text", "choice": "list", "ignore_eos": "boolean"}
MESSAGES = [{"role": "user", "content": "Hi"}]
# A family's request, its fields, and those that may be null there.
FAMILIES = {
    "/v1/chat/completions": (
        {"messages": MESSAGES, "max_tokens": 4},
        {**WRITING, "messages": "list", "max_tokens": "integer", "max_completion_tokens": "integer", "logprobs": "boolean",
         "top_logprobs": "integer", "tools": "list", "tool_choice": "text or object", "parallel_tool_calls": "boolean",
         "response_format": "object", "store": "boolean", "service_tier": "text", "safety_identifier": "text",
         "prompt_cache_key": "text", "prompt_cache_retention": "text", "reasoning_effort": "text", "verbosity": "text",
         "modalities": "list", "audio": "object", "prediction": "object", "web_search_options": "object", "functions": "list",
         "function_call": "text or object", "metadata": "object"},
        ["messages", "model", "tools", "tool_choice", "parallel_tool_calls", "response_format", "user"]),
    "/v1/completions": (
        {"prompt": "Hi", "max_tokens": 4},
        {**WRITING, "prompt": "text or list", "max_tokens": "integer", "logprobs": "integer", "echo": "boolean", "suffix": "text",
         "best_of": "integer"},
        ["prompt", "model", "user"]),
    "/tokenize": ({"content": "x"}, {"model": "text", "content": "text", "add_special": "boolean", "parse_special": "boolean",
                                     "with_pieces": "boolean"}, ["content"]),
    "/detokenize": ({"tokens": [5]}, {"model": "text", "tokens": "list", "specials": "boolean"}, ["tokens"]),
    "/apply-template": ({"messages": MESSAGES}, {"model": "text", "messages": "list", "tools": "list",
                                                 "tool_choice": "text or object"}, ["messages"]),
    "/puna/unload": ({"model": "nano"}, {"model": "text"}, ["model"]),
    "/v1/embeddings": ({"input": "x"}, {"input": "text or list", "model": "text", "encoding_format": "text", "dimensions": "integer",
                                        "user": "text"}, ["input"]),
    "/v1/rerank": ({"query": "x", "documents": ["y"]}, {"query": "text", "documents": "list", "model": "text", "top_n": "integer"},
                   ["query", "documents"]),
    "/v1/responses": (
        {"input": "Hi", "max_output_tokens": 4},
        {"input": "text or list", "model": "text", "instructions": "text", "max_output_tokens": "integer", "temperature": "number",
         "top_p": "number", "tools": "list", "tool_choice": "text or object", "parallel_tool_calls": "boolean", "text": "object",
         "stream": "boolean", "store": "boolean", "metadata": "object", "truncation": "text", "reasoning": "object",
         "previous_response_id": "text", "include": "list", "user": "text", "background": "boolean", "top_logprobs": "integer",
         "service_tier": "text"}, ["input"]),
    "/v1/messages": (
        {"model": "nano", "messages": MESSAGES, "max_tokens": 4},
        {"model": "text", "messages": "list", "max_tokens": "integer", "system": "text or list", "temperature": "number",
         "top_p": "number", "top_k": "integer", "stop_sequences": "list", "stream": "boolean", "tools": "list",
         "tool_choice": "object", "metadata": "object", "thinking": "object", "service_tier": "text"},
        ["messages", "max_tokens", "stream", "tools"]),
    "/v1/messages/count_tokens": ({"model": "nano", "messages": MESSAGES}, {"messages": "list", "system": "text or list",
                                                                            "tools": "list", "tool_choice": "object"}, ["messages"]),
    "/api/chat": ({"model": "nano", "messages": MESSAGES, "stream": False, "options": {"num_predict": 4}},
                  {"messages": "list", "model": "text", "stream": "boolean", "tools": "list", "options": "object",
                   "logprobs": "boolean", "top_logprobs": "integer"}, []),
    "/api/generate": ({"model": "nano", "prompt": "Hi", "stream": False, "options": {"num_predict": 4}},
                      {"prompt": "text", "model": "text", "stream": "boolean", "system": "text", "template": "text", "suffix": "text",
                       "raw": "boolean", "options": "object", "images": "list", "context": "list"}, []),
    "/api/embed": ({"model": "nano", "input": "x"}, {"input": "text or list", "model": "text", "options": "object",
                                                     "dimensions": "integer", "truncate": "boolean"}, []),
    "/api/show": ({"model": "nano"}, {"model": "text", "verbose": "boolean"}, []),
}
FINE_TEXTS = {"content"}  # of any length
VOTE = {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES, "winner": "a"}
# Bodies for the paths that FAMILIES lacks: what they take, the server's own document says.
OTHERS = {"/v2/rerank": {"query": "x", "documents": ["y"]}, "/rerank": {"query": "x", "documents": ["y"]},
          "/api/embeddings": {"model": "nano", "prompt": "x"}, "/api/pull": {"model": "org/name"}, "/api/delete": {"model": "org/name"},
          "/api/copy": {"source": "nano", "destination": "org/name"}, "/puna/votes": VOTE}
ANY = {"keep_alive": ["true", "[]", "{}", '"soon"', '"5 minutes"', "1e999", NESTED], "think": ["1", "[]", "{}", "true", '"high"', NESTED]}
INNER = [  # within lists and objects of a chat
    ("messages[0].role", {"messages": [{"role": PLACE, "content": "x"}]}, WRONG["text"] + ['"nobody"', '""', "null"]),
    ("messages[0].content", {"messages": [{"role": "user", "content": PLACE}]}, ["1", "true", "{}", "null", NESTED]),
    ("messages", {"messages": [{"role": "user", "content": PLACE}]}, ["[1]", "[{}]", LONG]),
    ("messages[0].extra", {"messages": [{"role": "user", "content": "x", "extra": PLACE}]}, ["1", "null"]),
    ("messages[0].name", {"messages": [{"role": "user", "content": "x", "name": PLACE}]}, WRONG["text"]),
    ("messages[0].tool_calls", {"messages": [{"role": "assistant", "tool_calls": PLACE}]}, ["1", '"x"', "{}", "[1]", "[{}]"]),
    ("messages[1].tool_call_id", {"messages": MESSAGES + [{"role": "tool", "content": "x", "tool_call_id": PLACE}]}, WRONG["text"]),
    ("stream_options.include_usage", {"messages": MESSAGES, "stream": True, "stream_options": {"include_usage": PLACE}},
     WRONG["boolean"]),
    ("stream_options.extra", {"messages": MESSAGES, "stream": True, "stream_options": {"extra": PLACE}}, ["1"]),
    ("logit_bias", {"messages": MESSAGES, "logit_bias": {"5": PLACE}}, ['"1"', "true", "101", "-101", "1e999", "null", "[]", "{}"]),
    ("stop", {"messages": MESSAGES, "stop": [PLACE]}, ['""', "1", "null", "[]", LONG]),
    ("tools[0]", {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": PLACE}}]},
     WRONG["text"] + ['""', '"' + "n" * 65 + '"', "null"]),
    ("tools[0]", {"messages": MESSAGES, "tools": [{"type": PLACE, "function": {"name": "f"}}]}, WRONG["text"] + ['"web_search"']),
    ("tools[0]", {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "f", "parameters": PLACE}}]},
     ["1", '"x"', "[]", "true", NESTED]),
    ("response_format", {"messages": MESSAGES, "response_format": {"type": PLACE}}, WRONG["text"] + ['"xml"', "null"]),
    ("response_format", {"messages": MESSAGES, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": PLACE}}},
     ["1", '"x"', "[]", '{"type": "nothing"}', '{"type": 1}', '{"pattern": "("}', '{"$ref": "#/$defs/none"}', NESTED]),
]


class NegativeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.server = RunningServer("nano", "--votes", os.path.join(folder.name, "votes.jsonl"))
        cls.connection = cls.server.connection()
        cls.there = {path for path in FAMILIES if cls.server.post(path, {}).status != 404}
        cls.counts = {}

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.server.stop()

    def post(self, path, body, method="POST"):
        self.connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def family(self, path):
        return "message_error" if path.startswith("/v1/messages") else "ollama_error" if path.startswith("/api/") else "error"

    # A refusal in its family's shape that names the field, where the family does, and speaks no path of a file.
    def check_refused(self, path, param, text, method="POST"):
        status, body = self.post(path, text, method)
        about = (path, param, text[:300], status, body[:500])
        self.assertTrue(400 <= status < 500, about)
        error = check_shape(json.loads(body), self.family(path))
        if self.family(path) == "error":
            self.assertTrue(error["error"]["param"] == "body" or str(error["error"]["param"]).startswith(param), about)
        self.assertNotRegex(error["error"] if self.family(path) == "ollama_error" else error["error"]["message"], r"/(usr|home|root|work|tmp)/")
        self.counts[path] = self.counts.get(path, 0) + 1

    def with_value(self, body, value):
        return json.dumps(body).replace(json.dumps(PLACE), value)

    def test_every_field_with_wrong_values(self):
        faults = []
        for path in sorted(self.there):
            body, fields, never_null = FAMILIES[path]
            for field, kind in fields.items():
                for value in WRONG[kind] + (["null"] if field in never_null else []):
                    if field in FINE_TEXTS and value == LONG:
                        continue
                    try:
                        self.check_refused(path, field, self.with_value({**body, field: PLACE}, value))
                    except AssertionError as error:
                        faults.append("%s %s %s: %s" % (path, field, value[:40], str(error)[:600]))
        self.assertEqual(faults, [], "\n".join([""] + faults))
        self.assertGreaterEqual(sum(self.counts.values()), 900, self.counts)

    # The tables above are written by hand; what the server says that it takes beyond them is tried here, so no field is forgotten.
    def test_fields_that_only_the_server_s_document_has(self):
        faults, tried = [], 0
        for path, methods in self.server.get("/openapi.json").json["paths"].items():
            for method, operation in methods.items():
                if "requestBody" not in operation:
                    continue
                body, known, _ = FAMILIES.get(path, (OTHERS.get(path), {}, []))
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                for field, rule in schema["properties"].items():
                    if field in known:
                        continue
                    for value in self.wrong_for(field, rule):
                        tried += 1
                        try:
                            self.check_refused(path, field, self.with_value({**body, field: PLACE}, value), method.upper())
                        except AssertionError as error:
                            faults.append("%s %s %s: %s" % (path, field, value[:40], str(error)[:600]))
        self.assertEqual(faults, [], "\n".join([""] + faults))
        self.assertGreater(tried, 300)

    def wrong_for(self, field, rule):
        if "type" not in rule:
            return ANY[field]
        types = {"string": "text", "array": "list"}
        named = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        kind = " or ".join(types.get(name, name) for name in named if name != "null")
        values = [value for value in WRONG[kind] if value != LONG or "maxLength" in rule]
        return values + ([] if "null" in named else ["null"])

    def test_options_of_ollama(self):
        if "/api/chat" not in self.there:
            self.skipTest("there is no /api/chat")
        options = {"num_keep": "integer", "seed": "integer", "num_predict": "integer", "top_k": "integer", "top_p": "number",
                   "min_p": "number", "typical_p": "number", "repeat_last_n": "integer", "temperature": "number",
                   "repeat_penalty": "number", "presence_penalty": "number", "frequency_penalty": "number", "stop": "text or list",
                   "num_ctx": "integer", "num_batch": "integer", "num_gpu": "integer", "main_gpu": "integer", "use_mmap": "boolean",
                   "num_thread": "integer"}
        for name, kind in options.items():
            for value in WRONG[kind]:
                body = {"model": "nano", "messages": MESSAGES, "stream": False, "options": {name: PLACE}}
                self.check_refused("/api/chat", name, self.with_value(body, value))

    def test_values_within(self):
        faults = []
        for param, body, values in INNER:
            for value in values:
                try:
                    self.check_refused("/v1/chat/completions", param, self.with_value(body, value))
                except AssertionError as error:
                    faults.append("%s %s: %s" % (param, value[:40], str(error)[:600]))
        self.assertEqual(faults, [], "\n".join([""] + faults))

    def test_out_of_range(self):
        for field, values in {"temperature": ["-0.1", "2.1"], "top_p": ["0", "-1", "1.1"], "n": ["0", "17"], "max_tokens": ["0", "-5"],
                              "presence_penalty": ["2.1", "-2.1"], "top_logprobs": ["-1", "21"], "min_p": ["1.1"], "top_k": ["-2"],
                              "max_completion_tokens": ["0"], "stop": ['""', "[]", json.dumps(["x"] * 17)], "grammar": ['""'],
                              "messages": ["[]"], "repetition_penalty": ["0"], "choice": ["[]"], "regex": ['""']}.items():
            for value in values:
                body = {"messages": MESSAGES, "logprobs": True, field: PLACE}
                self.check_refused("/v1/chat/completions", field, self.with_value(body, value))

    def test_unknown_and_missing_fields(self):
        for path in sorted(self.there):
            body, fields, never_null = FAMILIES[path]
            self.check_refused(path, "temperatur", json.dumps({**body, "temperatur_": 1}))
            for field in set(body) & set(never_null) - {"max_tokens", "model"}:
                self.check_refused(path, field, json.dumps({name: value for name, value in body.items() if name != field}))
        status, body = self.post("/v1/chat/completions", json.dumps({"messages": MESSAGES, "temperatur": 1}))
        self.assertIn("temperature", json.loads(body)["error"]["message"], "it names the nearest")

    def test_bytes_that_are_no_utf8(self):
        pick = random.Random(1)
        bad = [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x80\x80\xaf", b"\xf0\x8f\xbf\xbf",
               b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
               b"\xfc\x84\x80\x80\x80\x80", b"\xfe", b"\xff", b"\xc2", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc2x", b"\xe2\x82x", b"\xf0\x9f\x98x"]
        while len(bad) < 200:
            good = "Grüße, 世界 🦊 नमस्ते".encode()
            at = pick.randrange(len(good))
            torn = good[:at] + bytes([pick.choice([0x80, 0xC0, 0xFF, 0xF8, 0xED])]) + good[at + 1:]
            try:
                torn.decode()
            except UnicodeDecodeError:
                bad.append(torn)
        for one in bad:
            self.check_refused("/v1/chat/completions", "body", b'{"messages":[{"role":"user","content":"' + one + b'"}],"max_tokens":1}')
            self.check_refused("/tokenize", "body", b'{"content":"x","' + one + b'":1}')

    def test_texts_that_are_no_json(self):
        for text in ("", " ", "{", "}", "[", "{]", "null", "1", '"x"', "[]", "true", "nul", "NaN", "{a:1}", "{'a':1}", '{"a":1,}', '{"a" 1}',
                     '{"a":}', '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}', '{"a":1e}', '{"a":0x1}', '{"a":Infinity}', '{"a":-}',
                     '{"a":NaN}', '{"a":"\t"}', '{"a":"\\x41"}', '{"a":"\\u12"}', '{"a":"\\ud800"}', '{"a":"\\udc00"}',
                     '{"a":"\\ud800\\u0041"}', '{"a":"\\ud800\\ud800"}', '{"a":"x}', '{"a":1}{"b":2}', '{"a":1} x', '{"a":1}\0', '{"a":"\0"}',
                     '{"a":1,"a":2}', '{"content":"x","content":"y"}', '{"a":{"b":1,"b":2}}', '{"a":1,"\\u0061":2}', "// x\n{}", "/**/{}",
                     "\ufeff{", '{"a":tru}', '{"a":TRUE}', '{1:2}', '{"a":[1,]}', '{"a":[,1]}', '{"a":[1 2]}', '{"a":1e400}', '{"a":-1e400}',
                     "{" * 100_000, "[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, '{"a":' + "[" * 65 + "]" * 65 + "}",
                     '{"a":[' + "0," * 500_001 + "0]}", "<html>", "a=b&c=d"):
            self.check_refused("/tokenize", "", text.encode())

    def test_json_that_is_unusual(self):
        for text, content in (('{"content":"x"}', "x"), (' \n\t\r{ "content" : "x" } \n', "x"), ('{"content":"\\u0041\\n\\/"}', "A\n/"),
                              ('{"content":"\\ud83e\\udd8a"}', "🦊"), ('{"content":"\\u0000"}', "\0"), ('{"content":""}', ""),
                              ('{"\\u0063ontent":"x"}', "x"), ('{"content":"\u2028\ufeff\u200b"}', "\u2028\ufeff\u200b"),
                              ('{"content":"\U0010ffff"}', "\U0010ffff"), ('{"content":"x","model":"nano","add_special":false}', "x")):
            status, body = self.post("/tokenize", text.encode())
            self.assertEqual(status, 200, body)
            tokens = json.loads(body)["tokens"]
            _, body = self.post("/detokenize", json.dumps({"tokens": tokens}))
            self.assertEqual(json.loads(body)["content"], content)

    def test_zz_it_still_answers(self):
        status, body = self.post("/v1/chat/completions", json.dumps({"messages": MESSAGES, "max_tokens": 4}))
        self.assertEqual(status, 200, body)
        text = self.server.get("/metrics").text
        self.assertNotRegex(text, r'status="5\d\d"')
        self.assertEqual(self.server.log().count("\n"), 1, self.server.log())


if __name__ == "__main__":
    unittest.main()
