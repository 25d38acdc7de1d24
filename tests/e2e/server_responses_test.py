# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Responses API of `puna serve`, with the model inside the program. PUNA is the program's path."""

import json
import os
import unittest

from running_server import SHORT_CALL, RunningServer

QUESTION = "What is the capital of France?"
CALCULATION = "What is 12 * 31?"


def tools():
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "recipes", "nano", "tools.json")) as file:
        return [{"type": "function", "strict": True, **tool["function"]} for tool in json.load(file)]


class ResponsesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer()
        chat = cls.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}).json
        cls.answer = chat["choices"][0]["message"]["content"]  # whatever this nano says
        assert "Paris" in cls.answer and " is" in cls.answer, cls.answer

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def body(self, asked, **fields):
        return {"model": "nano", "input": asked, "temperature": 0, **fields}

    def response(self, asked, **fields):
        response = self.server.post("/v1/responses", self.body(asked, **fields))
        self.assertEqual(response.status, 200, response.text)
        self.assertEqual(response.json["object"], "response")
        return response.json

    # The events; the last one's response, held against what the others told.
    def streamed(self, asked, **fields):
        events = list(self.server.stream("/v1/responses", self.body(asked, stream=True, **fields)))
        for number, (name, data) in enumerate(events):
            self.assertEqual((name, number), (data["type"], data["sequence_number"]))
        self.assertEqual([name for name, _ in events[:2]], ["response.created", "response.in_progress"])
        self.assertEqual(events[0][1]["response"]["status"], "in_progress")
        response = events[-1][1]["response"]
        self.assertEqual(events[-1][0], "response." + response["status"])
        self.assertEqual(response["id"], events[0][1]["response"]["id"])
        done = [data["item"] for name, data in events if name == "response.output_item.done"]
        self.assertEqual(done, response["output"])
        for index, item in enumerate(response["output"]):
            told = [(name, data) for name, data in events if data.get("output_index") == index]
            self.assertEqual((told[0][0], told[-1][0]), ("response.output_item.added", "response.output_item.done"))
            deltas = "".join(data["delta"] for name, data in told if name.endswith(".delta"))
            self.assertEqual(deltas, item["content"][0]["text"] if item["type"] == "message" else item["arguments"])
            self.assertTrue(all(data.get("item_id", item["id"]) == item["id"] for _, data in told))
        return response

    def same(self, asked, **fields):
        whole, streamed = self.response(asked, **fields), self.streamed(asked, **fields)
        for value in (whole, streamed):
            for name in ("id", "created_at"):
                value.pop(name)
            value["usage"].pop("input_tokens_details")
            for item in value["output"]:
                item.pop("id")
                item.pop("call_id", None)
        self.assertEqual(whole, streamed)
        return whole

    def test_a_text(self):
        response = self.same(QUESTION, metadata={"a": "b"}, store=False)
        self.assertEqual(response["status"], "completed")
        self.assertEqual(response["output"], [{"type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": self.answer, "annotations": [], "logprobs": []}]}])
        self.assertEqual((response["metadata"], response["store"], response["truncation"]), ({"a": "b"}, False, "disabled"))
        usage = response["usage"]
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])

    def test_items_are_what_a_text_is(self):
        items = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
        self.assertEqual(self.response(items)["output"][0]["content"], self.response(QUESTION)["output"][0]["content"])

    def test_an_answer_cut_short(self):
        response = self.same(QUESTION, max_output_tokens=2)
        self.assertEqual((response["status"], response["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        self.assertEqual(response["output"][0]["status"], "incomplete")

    def test_a_call_and_its_output(self):
        response = self.same(CALCULATION, tools=tools())
        self.assertEqual(response["output"], [{"type": "function_call", "name": "calculator", "status": "completed",
                                               "arguments": "{\"expression\":\"12 * 31\"}"}])
        call = self.response(CALCULATION, tools=tools())["output"][0]
        response = self.response([{"role": "user", "content": CALCULATION}, call,
                                  {"type": "function_call_output", "call_id": call["call_id"], "output": "372"}], tools=tools())
        self.assertIn("372", response["output"][0]["content"][0]["text"])

    def test_tool_choice(self):
        response = self.response(QUESTION, tools=[*tools(), {"type": "function", **SHORT_CALL}],
                                 tool_choice={"type": "function", "name": "pick"})
        self.assertEqual(response["output"][-1]["name"], "pick")
        self.assertEqual(self.response(CALCULATION, tools=tools(), tool_choice="none")["output"][0]["type"], "message")

    def test_a_schema(self):
        schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
                  "additionalProperties": False}
        text = {"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}
        response = self.response(QUESTION, text=text)
        self.assertIn(json.loads(response["output"][0]["content"][0]["text"])["city"], ("Paris", "Rome"))
        self.assertEqual(response["text"], text)

    def test_log_probabilities(self):
        response = self.same(QUESTION, include=["message.output_text.logprobs"], top_logprobs=2)
        content = response["output"][0]["content"][0]
        self.assertEqual("".join(token["token"] for token in content["logprobs"]), self.answer)
        self.assertTrue(all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in content["logprobs"]))

    def test_refusals(self):
        for param, fields in (("previous_response_id", {"previous_response_id": "resp_1"}), ("store", {"store": True}),
                              ("background", {"background": True}), ("tools[0].type", {"tools": [{"type": "web_search"}]}),
                              ("truncation", {"truncation": "auto"}), ("temperature", {"temperature": 3}),
                              ("max_output_tokens", {"max_output_tokens": 0}), ("max_tokens", {"max_tokens": 3}),
                              ("include", {"include": ["x"]}), ("input", {"input": None}), ("input[0]", {"input": [3]})):
            for stream in (False, True):
                response = self.server.post("/v1/responses", self.body(QUESTION, **{"stream": stream, **fields}))
                self.assertEqual(response.status, 400, (fields, response.text))
                self.assertEqual(response.json["error"]["param"], param)


if __name__ == "__main__":
    unittest.main()
