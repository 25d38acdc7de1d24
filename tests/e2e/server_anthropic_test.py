# SPDX-License-Identifier: Apache-2.0
"""Anthropic's Messages API of `puna serve`, with the model inside the program. PUNA is the program's path."""

import json
import os
import unittest

from running_server import SHORT_CALL, RunningServer

QUESTION = {"role": "user", "content": "What is the capital of France?"}
CALCULATION = {"role": "user", "content": "What is 12 * 31?"}


PICK = {"name": "pick", "description": SHORT_CALL["description"], "input_schema": SHORT_CALL["parameters"]}


def tools():
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "recipes", "nano", "tools.json")) as file:
        functions = [tool["function"] for tool in json.load(file)]
    return [{"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}
            for function in functions]


class AnthropicTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer()
        chat = cls.server.post("/v1/chat/completions", {"messages": [QUESTION], "temperature": 0}).json
        cls.answer = chat["choices"][0]["message"]["content"]  # whatever this nano says
        assert "Paris" in cls.answer and " is" in cls.answer, cls.answer

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def body(self, *messages, **fields):
        return {"model": "nano", "max_tokens": 60, "temperature": 0, "messages": list(messages), **fields}

    def message(self, *messages, **fields):
        response = self.server.post("/v1/messages", self.body(*messages, **fields))
        self.assertEqual(response.status, 200, response.text)
        self.assertEqual(response.json["type"], "message")
        self.assertEqual(response.json["role"], "assistant")
        return response.json

    # The events, checked for their order; the message they come to.
    def streamed(self, *messages, **fields):
        events = [data for name, data in self.server.stream("/v1/messages", self.body(*messages, stream=True, **fields))
                  if self.assertEqual(name, data["type"]) is None and name != "ping"]
        self.assertEqual(events[0]["type"], "message_start")
        self.assertEqual([event["type"] for event in events[-2:]], ["message_delta", "message_stop"])
        message, inside = events[0]["message"], False
        self.assertIsNone(message["stop_reason"])
        for event in events[1:-2]:
            if event["type"] == "content_block_start":
                self.assertFalse(inside)
                self.assertEqual(event["index"], len(message["content"]))
                block = event["content_block"]
                message["content"].append(block)
                inside, written = True, ""
            elif event["type"] == "content_block_delta":
                self.assertTrue(inside)
                self.assertEqual(event["index"], len(message["content"]) - 1)
                delta = event["delta"]
                self.assertEqual(delta["type"], "text_delta" if block["type"] == "text" else "input_json_delta")
                written += delta["text"] if block["type"] == "text" else delta["partial_json"]
            else:
                self.assertEqual(event["type"], "content_block_stop")
                inside = False
                block.update({"text": written} if block["type"] == "text" else {"input": json.loads(written)})
        self.assertFalse(inside)
        message.update(events[-2]["delta"], usage=events[-2]["usage"])
        return message

    def same(self, *messages, **fields):
        whole, streamed = self.message(*messages, **fields), self.streamed(*messages, **fields)
        for value in (whole, streamed):
            usage = value["usage"]
            usage["input_tokens"] += usage.pop("cache_read_input_tokens")
            for block in value["content"]:
                if block["type"] == "tool_use":
                    self.assertTrue(block.pop("id").startswith("toolu_"))
            self.assertTrue(value.pop("id").startswith("msg_"))
        self.assertEqual(whole, streamed)
        return whole

    def test_a_text(self):
        message = self.same(QUESTION)
        self.assertEqual(message["content"], [{"type": "text", "text": self.answer}])
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("end_turn", None))
        self.assertGreater(message["usage"]["output_tokens"], 3)

    def test_why_it_ended(self):
        message = self.same(QUESTION, max_tokens=2)
        self.assertEqual((message["stop_reason"], message["usage"]["output_tokens"]), ("max_tokens", 2))
        message = self.same(QUESTION, stop_sequences=["Rome", " is"])
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("stop_sequence", " is"))
        self.assertEqual(message["content"], [{"type": "text", "text": self.answer.split(" is")[0]}])
        message = self.message(QUESTION, stop_sequences=[self.answer.split()[0]])
        self.assertEqual(message["content"], [])

    def test_more_tokens_than_the_context_has(self):
        self.assertEqual(self.message(QUESTION, max_tokens=100000)["stop_reason"], "end_turn")

    def test_a_system_text_and_blocks(self):
        one = self.message(QUESTION, system="Answer briefly.")
        many = self.message({"role": "user", "content": [{"type": "text", "text": QUESTION["content"],
                                                          "cache_control": {"type": "ephemeral"}}]},
                            system=[{"type": "text", "text": "Answer "}, {"type": "text", "text": "briefly."}])
        self.assertEqual(one["content"], many["content"])

    def test_an_answer_that_is_begun(self):
        self.assertEqual(self.message(QUESTION, {"role": "assistant", "content": "The capital of"})["content"],
                         [{"type": "text", "text": " France is Paris."}])

    def test_a_call_and_its_result(self):
        message = self.same(CALCULATION, tools=tools())
        self.assertEqual(message["stop_reason"], "tool_use")
        self.assertEqual(message["content"], [{"type": "tool_use", "name": "calculator", "input": {"expression": "12 * 31"}}])
        call = {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {"expression": "12 * 31"}}
        message = self.message(CALCULATION, {"role": "assistant", "content": [call]},
                               {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "372"}]},
                               tools=tools())
        self.assertIn("372", message["content"][0]["text"])

    def test_tool_choice(self):
        message = self.message(QUESTION, tools=[*tools(), PICK], tool_choice={"type": "tool", "name": "pick"})
        self.assertEqual([block["name"] for block in message["content"] if block["type"] == "tool_use"], ["pick"])
        message = self.message(QUESTION, tools=[PICK], tool_choice={"type": "any", "disable_parallel_tool_use": True})
        self.assertEqual(message["stop_reason"], "tool_use")
        message = self.message(CALCULATION, tools=tools(), tool_choice={"type": "none"})
        self.assertEqual(message["stop_reason"], "end_turn")

    def test_a_schema(self):
        schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
                  "additionalProperties": False}
        message = self.message(QUESTION, output_config={"format": {"type": "json_schema", "schema": schema}})
        self.assertIn(json.loads(message["content"][0]["text"])["city"], ("Paris", "Rome"))

    def test_counting(self):
        body = self.body(QUESTION, system="Be brief.", tools=tools())
        for name in ("max_tokens", "temperature"):
            body.pop(name)
        counted = self.server.post("/v1/messages/count_tokens", body).json["input_tokens"]
        usage = self.message(QUESTION, system="Be brief.", tools=tools(), max_tokens=1)["usage"]
        self.assertEqual(counted, usage["input_tokens"] + usage["cache_read_input_tokens"])

    def test_refusals(self):
        for status, text, fields in (
                (400, "max_tokens", {"max_tokens": None}), (400, "max_tokens", {"max_tokens": 0}),
                (400, "temperature", {"temperature": 1.5}), (400, "top_k", {"top_k": -1}), (400, "n", {"n": 2}),
                (400, "thinking", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
                (400, "stop_sequences", {"stop_sequences": [""]}), (400, "stop_sequences", {"stop_sequences": "a"}),
                (400, "image", {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}),
                (400, "tools[0]", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
                (400, "messages", {"messages": []}), (404, "nobody", {"model": "nobody"}),
                (400, "tokens", {"messages": [{"role": "user", "content": "word " * 2000}]})):
            for stream in (False, True):
                response = self.server.post("/v1/messages", self.body(QUESTION, **{"stream": stream, **fields}))
                self.assertEqual(response.status, status, (fields, response.text))
                error = response.json
                self.assertEqual(error["type"], "error")
                self.assertEqual(error["error"]["type"], "not_found_error" if status == 404 else "invalid_request_error")
                self.assertIn(text, error["error"]["message"])
                self.assertEqual(error["request_id"], response.headers["request-id"])
        self.assertEqual(self.server.post("/v1/messages", "{").json["error"]["type"], "invalid_request_error")


if __name__ == "__main__":
    unittest.main()
