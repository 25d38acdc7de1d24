# SPDX-License-Identifier: Apache-2.0
"""`puna batch`: requests in, answers out, in order; what was stopped goes on. PUNA is the program's path. The model is a new one that
nothing was taught, which is enough: its greedy answers are the same every time, and those of `puna run`."""

import json
import os
import subprocess
import tempfile
import unittest

from running_server import PATIENCE, PUNA

QUESTION = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 6}
TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}}


class BatchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        corpus, recipe = (os.path.join(cls.shared.name, name) for name in ("corpus.txt", "recipe.yaml"))
        with open(corpus, "w") as file:
            file.write("the cat sees a dog and the dog likes the sun\n" * 60)
        tokenizer, run = os.path.join(cls.shared.name, "tokenizer.json"), os.path.join(cls.shared.name, "run")
        subprocess.run([PUNA, "train-tokenizer", corpus, "--vocab", "290", "--out", tokenizer], check=True, capture_output=True)
        with open(recipe, "w") as file:
            json.dump({"tokenizer": tokenizer, "data": [corpus], "out": run, "sequence_length": 32, "step_tokens": 64,
                       "batch_tokens": 64, "steps": 3, "optimizer": {"learning_rate": 0.01},
                       "new_model": {"layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "context": 1024}}, file)
        subprocess.run([PUNA, "train", recipe], check=True, capture_output=True)
        cls.model = os.path.join(run, "latest")

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.requests, self.answers = os.path.join(self.folder, "in.jsonl"), os.path.join(self.folder, "out.jsonl")

    def write(self, path, rows, end="\n"):
        with open(path, "w") as file:
            file.write("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + end)

    def read(self):
        with open(self.answers) as file:
            return [json.loads(line) for line in file]

    def puna(self, *arguments, code=0, **options):
        result = subprocess.run([PUNA, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE, cwd=self.folder, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def batch(self, rows, *flags, code=0):
        self.write(self.requests, rows)
        result = self.puna("batch", self.model, self.requests, self.answers, "--date", "26 Jul 2024", *flags, code=code)
        return json.loads(result.stdout) if "--json" in flags and code == 0 else result

    def test_answers_are_those_of_run(self):
        self.batch([{"id": "a", **QUESTION}, {"custom_id": "b", "body": QUESTION}, QUESTION])
        alone = json.loads(self.puna("run", self.model, "-p", "the cat", "-n", "6", "--temp", "0", "--date", "26 Jul 2024", "--json").stdout)
        answers = self.read()
        self.assertEqual([answer["id"] for answer in answers], ["a", "b", 3])
        for answer in answers:
            self.assertEqual(answer["message"], alone["message"])
            self.assertTrue(answer["raw"].startswith(alone["text"]), answer)
            self.assertEqual(answer["usage"], {"prompt_tokens": alone["prompt_tokens"], "completion_tokens": len(alone["tokens"])})
            self.assertEqual(answer["finish_reason"], "length" if alone["finish_reason"] == "length" else "stop")

    def test_the_same_prompt_is_computed_once(self):
        question = {"messages": [{"role": "user", "content": "the cat sees a dog " * 40}], "max_tokens": 6}
        summary = self.batch([question, question], "--json")
        tokens = self.read()[0]["usage"]["prompt_tokens"]
        whole_pages = (tokens - 8) // 64 * 64
        self.assertGreater(whole_pages, 0)
        self.assertEqual((summary["answered"], summary["prompt_tokens"], summary["cached_tokens"]), (2, 2 * tokens, whole_pages))

    def test_many_at_once_say_what_each_says_alone(self):
        rows = [{"id": str(i), "messages": [{"role": "user", "content": "the dog " * (i % 9) + "sees"}], "max_tokens": 3 + i % 5,
                 "temperature": 0.8, "seed": i} for i in range(30)]
        self.batch(rows, "--parallel", "1")
        alone = self.read()
        self.batch(rows, "--parallel", "7", "--force")
        self.assertEqual(self.read(), alone)

    def test_proposals_change_nothing(self):
        rows = [{"messages": [{"role": "user", "content": "the cat sees a dog and " * n}], "max_tokens": 30, "temperature": n % 2, "seed": n}
                for n in range(1, 5)]
        self.batch(rows)
        plain = self.read()
        for flags in (["--lookup"], ["--draft", self.model, "--draft-tokens", "6"]):
            for parallel in ("1", "3"):
                self.batch(rows, "--force", "--parallel", parallel, *flags)
                self.assertEqual(self.read(), plain)

    def test_requests_name_their_adapters(self):
        recipe, run = os.path.join(self.folder, "recipe.yaml"), os.path.join(self.folder, "tuned")
        corpus = os.path.join(self.folder, "corpus.txt")
        with open(corpus, "w") as file:
            file.write("a dog likes the cat\n" * 60)
        with open(recipe, "w") as file:
            json.dump({"model": self.model, "data": [corpus], "out": run, "sequence_length": 32, "step_tokens": 64, "batch_tokens": 64,
                       "steps": 10, "lora": {"rank": 4}, "optimizer": {"learning_rate": 0.1}}, file)
        self.puna("train", recipe)
        adapter = os.path.join(run, "latest")
        self.batch([{**QUESTION, "adapter": "tuned"}, QUESTION, {**QUESTION, "adapter": "tune"}], "--adapter", "tuned=" + adapter)
        answers = self.read()
        ask = ["run", self.model, "-p", "the cat", "-n", "6", "--temp", "0", "--date", "26 Jul 2024", "--json"]
        for answer, flags in zip(answers, (["--adapter", adapter], [])):
            self.assertEqual(answer["message"], json.loads(self.puna(*ask, *flags).stdout)["message"])
        self.assertNotEqual(answers[0]["message"], answers[1]["message"])
        self.assertIn("\"adapter\" is 'tune', which --adapter does not name: did you mean tuned?", answers[2]["error"]["message"])

    def test_tools_stand_in_the_prompt(self):
        self.batch([QUESTION, {**QUESTION, "tools": [TOOL]}])
        plain, with_tools = (answer["usage"]["prompt_tokens"] for answer in self.read())
        self.assertGreater(with_tools, plain + 50)

    def test_a_request_decides_for_itself(self):
        drawn = {**QUESTION, "temperature": 1.5, "top_p": 1, "max_tokens": 30}
        self.batch([{**drawn, "seed": 1}, {**drawn, "seed": 2}, {**drawn, "seed": 1}, {**QUESTION, "max_tokens": 2},
                    {**QUESTION, "max_completion_tokens": 0}])
        answers = self.read()
        self.assertEqual(answers[0]["raw"], answers[2]["raw"])
        self.assertNotEqual(answers[0]["raw"], answers[1]["raw"])
        self.assertLessEqual(answers[3]["usage"]["completion_tokens"], 2)
        self.assertEqual((answers[4]["usage"]["completion_tokens"], answers[4]["finish_reason"]), (0, "length"))

    # Who offers no tools gets no calls, whatever the answer looks like.
    def test_json_is_text_where_there_are_no_tools(self):
        says = '{"name":"Ada","parameters":{}}'
        path = lambda name: os.path.join(self.folder, name)
        self.write(path("words.txt"), [says] * 200)
        self.puna("train-tokenizer", path("words.txt"), "--vocab", "300", "--out", path("tokenizer.json"))
        self.write(path("rows.jsonl"), [{"messages": [QUESTION["messages"][0], {"role": "assistant", "content": says}]}] * 40)
        with open(path("recipe.yaml"), "w") as file:
            json.dump({"tokenizer": path("tokenizer.json"), "objective": "sft", "data": [path("rows.jsonl")], "out": path("run"),
                       "steps": 60, "step_tokens": 512, "batch_tokens": 512, "sequence_length": 512,
                       "optimizer": {"learning_rate": 0.01},
                       "new_model": {"layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "context": 1024}}, file)
        self.puna("train", path("recipe.yaml"))
        ask = ("--temp", "0", "--date", "26 Jul 2024")
        one = json.loads(self.puna("run", path("run/latest"), "-p", "the cat", "-n", "40", "--json", *ask).stdout)["message"]
        self.write(self.requests, [{**QUESTION, "max_tokens": 40}])
        self.puna("batch", path("run/latest"), self.requests, self.answers, *ask)
        for message in (one, self.read()[0]["message"]):
            self.assertEqual((message["content"], message.get("tool_calls")), (says, None))

    def test_answers_have_the_shape_that_was_asked_for(self):
        schema = {"type": "object", "properties": {"name": {"enum": ["cat", "dog"]}, "age": {"type": "integer", "minimum": 3, "maximum": 12}},
                  "required": ["name", "age"]}
        drawn = {**QUESTION, "temperature": 2, "top_p": 1, "max_tokens": 400}
        rows = [{**drawn, "seed": seed, "response_format": {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}}
                for seed in range(4)]
        rows.append({**drawn, "response_format": {"type": "json_schema", "json_schema": {"name": "call", "schema":
                     {"type": "object", "properties": {"name": {"const": "look"}, "parameters": {"const": {}}}, "required": ["name", "parameters"]}}}})
        rows.append({**QUESTION, "response_format": {"type": "text"}})
        rows.append({**drawn, "max_tokens": 3, "response_format": {"type": "json_object"}})
        self.batch(rows)
        answers = self.read()
        for answer in answers[:4]:
            value = json.loads(answer["message"]["content"])
            self.assertEqual(list(value), ["name", "age"])
            self.assertIn(value["name"], ("cat", "dog"))
            self.assertTrue(3 <= value["age"] <= 12, value)
            self.assertEqual(answer["finish_reason"], "stop")
        self.assertEqual(json.loads(answers[4]["message"]["content"]), {"name": "look", "parameters": {}})
        self.assertNotIn("tool_calls", answers[4]["message"])  # an object, not a call
        self.assertTrue(answers[6]["message"]["content"].startswith("{"), answers[6])

    def test_a_call_can_be_required(self):
        other = {"type": "function", "function": {"name": "say", "parameters": {"type": "object", "properties": {"words": {"enum": ["hi"]}},
                                                                               "required": ["words"]}}}
        drawn = {**QUESTION, "tools": [TOOL, other], "temperature": 2, "top_p": 1, "max_tokens": 400}
        self.batch([{**drawn, "seed": 1, "tool_choice": {"type": "function", "function": {"name": "say"}}},
                    *({**drawn, "tools": [other], "seed": seed, "tool_choice": "required"} for seed in range(3))])
        for answer in self.read():
            self.assertEqual(answer["message"]["tool_calls"], [{"name": "say", "arguments": {"words": "hi"}}], answer)
            self.assertEqual(answer["finish_reason"], "tool_calls")

    def test_shapes_that_cannot_be_followed_are_refused(self):
        shape = lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
        rows = [{**QUESTION, **shape({"not": {"type": "string"}})}, {**QUESTION, "response_format": {"type": "xml"}},
                {**QUESTION, "response_format": {"type": "json_schema"}}, {**QUESTION, "tools": [TOOL], **shape({})},
                {**QUESTION, "tool_choice": "required"}, {**QUESTION, "tools": [TOOL], "tool_choice": "none"},
                {**QUESTION, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "lok"}}}]
        self.batch(rows)
        says = ("[line 1: schema#/not]", 'the type "xml"', 'no "json_schema"', "together", "there are no tools", '"none"', "did you mean look?")
        for answer, words in zip(self.read(), says, strict=True):
            self.assertIn(words, answer["error"]["message"])

    def test_a_bad_line_takes_its_place_and_stops_no_other(self):
        rows = ["{not json", {"id": "none"}, {"id": "role", "messages": [{"role": "king", "content": ""}]}, {"id": "n", "n": 2, **QUESTION},
                {"id": "stop", "stop": [1], **QUESTION}, {"id": "long", "messages": [{"role": "user", "content": "x " * 3000}]}, "[]",
                {"id": "good", **QUESTION}]
        self.batch(rows)
        answers = self.read()
        self.assertEqual([answer["id"] for answer in answers], [1, "none", "role", "n", "stop", "long", 7, "good"])
        for answer, says in zip(answers, ("[line 1]", 'has no "messages"', '"king"', '"n" is 2', '"stop" is [1]', "1024", "is array")):
            self.assertIn(says, answer["error"]["message"])
            self.assertEqual(set(answer), {"id", "error"})
        self.assertIn("raw", answers[-1])
        self.assertIn("7 of 8 requests failed", self.batch(rows, "--strict", "--force", code=3).stderr)

    def test_goes_on_where_it_was_stopped(self):
        rows = [{"id": number, **QUESTION} for number in range(4)]
        self.batch(rows)
        whole = self.read()
        self.write(self.answers, [{"id": 0, "kept": True}, json.dumps(whole[1]), '{"id": 2, "mess'], end="")
        summary = self.batch(rows, "--json")
        self.assertEqual((summary["kept"], summary["answered"]), (2, 2))
        self.assertEqual(self.read(), [{"id": 0, "kept": True}] + whole[1:])
        self.assertEqual(self.batch(rows, "--json")["kept"], 4)
        self.assertEqual(self.batch(rows, "--json", "--force")["kept"], 0)
        self.assertEqual(self.read(), whole)

    def test_earlier_failures_are_not_forgotten(self):
        rows = [{"id": "a", **QUESTION}, {"id": "b"}, {"id": "c", "n": 2, **QUESTION}]
        self.assertIn("] 2 of 3 requests failed: ", self.batch(rows, "--strict", code=3).stderr)
        again = self.batch(rows, "--strict", code=3)
        self.assertIn("] 2 of 3 requests failed, 2 of them in an earlier run: ", again.stderr)
        self.assertIn("0 answered, 0 failed, 3 were there already (2 of them failed)", again.stdout)
        summary = self.batch(rows, "--json")
        self.assertEqual((summary["failed"], summary["kept"], summary["kept_failed"]), (0, 3, 2))

    def test_the_requests_are_not_their_own_answers(self):
        self.write(self.requests, [QUESTION])
        os.symlink(self.requests, self.answers)
        before = os.stat(self.requests).st_size
        for out in (self.requests, self.answers):
            for flags in ([], ["--force"]):
                self.assertIn("the requests stand in this file", self.puna("batch", self.model, self.requests, out, *flags, code=2).stderr)
        with open(self.requests) as requests:
            self.puna("batch", self.model, "-", self.requests, stdin=requests, code=2)
        with open(self.requests) as requests, open(self.requests, "a") as answers:
            result = subprocess.run([PUNA, "batch", self.model, "-", "-"], stdin=requests, stdout=answers, stderr=subprocess.PIPE)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(os.stat(self.requests).st_size, before)

    def test_standard_output(self):
        rows = [{"id": "a", **QUESTION}, {"id": "b", **QUESTION}]
        self.batch(rows)
        whole = self.read()
        lines = lambda text: [json.loads(line) for line in text.splitlines()]
        for out in ("-", "/dev/stdout"):
            for flags in ([], ["--json"]):
                result = self.puna("batch", self.model, self.requests, out, "--date", "26 Jul 2024", *flags)
                self.assertEqual(lines(result.stdout), whole)
                self.assertIn('"answered":2' if flags else "2 answered", result.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "-")))
        with open(self.answers, "w") as file:
            ask = [PUNA, "batch", self.model, self.requests, "/dev/stdout", "--date", "26 Jul 2024"]
            subprocess.run(ask, stdout=file, check=True, stderr=subprocess.DEVNULL)
        self.assertEqual(self.read(), whole)

    def test_pipes_and_devices_are_only_written(self):
        self.write(self.requests, [QUESTION])
        self.assertIn("1 answered", self.puna("batch", self.model, self.requests, "/dev/null").stdout)
        self.assertIn("[/dev/full] cannot write: No space left", self.puna("batch", self.model, self.requests, "/dev/full", code=5).stderr)
        with open("/dev/full", "w") as full:
            result = subprocess.run([PUNA, "batch", self.model, self.requests, "-"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 5)
        self.assertIn("[standard output] cannot write: No space left", result.stderr)
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run([PUNA, "batch", self.model, self.requests, "-"], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        self.assertEqual((result.returncode, result.stderr), (141, b""))
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertIn("1 answered", self.puna("batch", self.model, self.requests, pipe).stdout)
        self.assertEqual(json.loads(os.read(reader, 1 << 16))["id"], 1)

    def test_another_runs_answers_are_refused(self):
        self.batch([{"id": "a", **QUESTION}, {"id": "b", **QUESTION}])
        before = self.read()
        self.assertIn('line 2 answers "b", but the request there is "c"',
                      self.batch([{"id": "a", **QUESTION}, {"id": "c", **QUESTION}], code=2).stderr)
        self.assertIn("holds 2 answers, but there are 1 requests", self.batch([{"id": "a", **QUESTION}], code=2).stderr)
        self.assertEqual(self.read(), before)

    def test_wrong_files(self):
        self.assertIn("every line is blank", self.batch(["", " "], code=3).stderr)
        self.assertFalse(os.path.exists(self.answers))
        self.puna("batch", self.model, "missing.jsonl", self.answers, code=4)
        self.write(self.requests, [QUESTION])
        self.assertIn("cannot be opened for writing", self.puna("batch", self.model, self.requests, "no/out.jsonl", code=3).stderr)

    def test_standard_input(self):
        self.puna("batch", self.model, "-", self.answers, input=json.dumps(QUESTION) + "\r\n\n" + json.dumps({"id": "z", **QUESTION}))
        self.assertEqual([answer["id"] for answer in self.read()], [1, "z"])


if __name__ == "__main__":
    unittest.main()
