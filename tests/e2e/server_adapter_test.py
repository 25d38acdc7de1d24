# SPDX-License-Identifier: Apache-2.0
"""Adapters that a request chooses by the model's name, and proposed tokens: the answers are those of `puna run`. The adapters are
trained here, over nano, for a moment, at a rate that changes what it says."""

import concurrent.futures
import json
import os
import subprocess
import tempfile
import unittest

from running_server import PUNA, RunningServer

CONVERSATION = {"messages": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "blue blue blue"}]}
QUESTION = "Hello, who are you?"


def ask(server, model, **more):
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 24, **more}
    return server.post("/v1/chat/completions", body)


class ServerAdapterTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        data, recipe, cls.run_folder = (os.path.join(cls.folder.name, name) for name in ("rows.jsonl", "recipe.yaml", "tuned"))
        with open(data, "w") as file:
            file.write((json.dumps(CONVERSATION) + "\n") * 40)
        with open(recipe, "w") as file:
            json.dump({"model": "nano", "objective": "sft", "data": [data], "out": cls.run_folder, "sequence_length": 128,
                       "step_tokens": 256, "batch_tokens": 256, "steps": 6, "lora": {"rank": 4},
                       "optimizer": {"learning_rate": 0.02}}, file)
        subprocess.run([PUNA, "train", recipe], check=True, capture_output=True)
        cls.adapter = os.path.join(cls.run_folder, "latest")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_alone(self, *flags):
        result = subprocess.run([PUNA, "run", "nano", "-p", QUESTION, "-n", "24", "--temp", "0", "--json", *flags], check=True,
                                capture_output=True, text=True)
        return json.loads(result.stdout)["message"]["content"]

    def test_the_model_s_name_chooses(self):
        with RunningServer("nano", "--adapter", "blue=" + self.adapter) as server:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                together = list(pool.map(lambda model: ask(server, model).json, ["nano", "nano:blue"] * 2))
            plain, tuned = (answer["choices"][0]["message"]["content"] for answer in together[:2])
            self.assertEqual([answer["choices"][0]["message"]["content"] for answer in together[2:]], [plain, tuned])
            self.assertEqual([answer["model"] for answer in together[:2]], ["nano", "nano:blue"])
            self.assertNotEqual(plain, tuned)
            self.assertEqual(plain, self.run_alone())
            self.assertEqual(tuned, self.run_alone("--adapter", self.adapter))

            models = {model["id"]: model for model in server.get("/v1/models").json["data"]}
            self.assertEqual(models["nano:blue"]["parent"], "nano")
            self.assertEqual(ask(server, "nano:red").status, 404)
            states = [server.post("/v1/embeddings", {"model": name, "input": "a"}).json["data"][0]["embedding"] for name in ("nano", "nano:blue")]
            self.assertNotEqual(*states)
            read = {"prompt": "Hello, who are you?", "echo": True, "logprobs": 0, "max_tokens": 1, "temperature": 0}
            told = [server.post("/v1/completions", {"model": name, **read}).json["choices"][0]["logprobs"]["token_logprobs"]
                    for name in ("nano", "nano:blue")]
            self.assertNotEqual(told[0][1:4], told[1][1:4], "the prompt is read with the adapters too")

    def test_ollama_s_names_choose_too(self):
        with RunningServer("nano", "--adapter", "blue=" + self.adapter) as server:
            def asked(path, name, **body):
                response = server.post("/api/" + path, {"model": name, "stream": False, "options": {"temperature": 0, "num_predict": 24}, **body}
                                       if path in ("chat", "generate") else {"model": name, **body})
                self.assertEqual(response.status, 200, response.text)
                return response.json

            for path, body, field in (("chat", {"messages": [{"role": "user", "content": QUESTION}]}, "message"),
                                      ("generate", {"prompt": QUESTION}, "response"),
                                      ("generate", {"prompt": "Once upon a time", "raw": True}, "response"),
                                      ("embed", {"input": QUESTION}, "embeddings"), ("embeddings", {"prompt": QUESTION}, "embedding")):
                plain, tuned, latest = (asked(path, name, **body)[field] for name in ("nano", "nano:blue", "nano:blue:latest"))
                self.assertNotEqual(plain, tuned, path)
                self.assertEqual(latest, tuned, path)
            said = ask(server, "nano:blue").json["choices"][0]["message"]["content"]
            self.assertEqual(asked("chat", "nano:blue", messages=[{"role": "user", "content": QUESTION}])["message"]["content"], said)

    def test_wrong_adapters_are_refused_at_once(self):
        for flag, code, message in (("blue", 2, "NAME=FOLDER"), ("=" + self.adapter, 2, "NAME=FOLDER"), ("x:blue=" + self.adapter, 2, "no model x"),
                                    ("blue=/nowhere", 4, "no such folder")):
            result = subprocess.run([PUNA, "serve", "nano", "--port", "0", "--adapter", flag], capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertIn(message, result.stderr)

    def test_proposals_change_no_answer(self):
        with RunningServer("nano") as server:
            expected = [ask(server, "nano", temperature=heat, seed=3).json["choices"][0]["message"]["content"] for heat in (0, 1)]
        for flags in (["--lookup"], ["--draft", "nano", "--draft-tokens", "3"]):
            with RunningServer("nano", *flags) as server:
                answers = [ask(server, "nano", temperature=heat, seed=3).json["choices"][0]["message"]["content"] for heat in (0, 1)]
                self.assertEqual(answers, expected, flags)


if __name__ == "__main__":
    unittest.main()
