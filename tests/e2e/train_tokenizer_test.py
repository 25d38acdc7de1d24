# SPDX-License-Identifier: Apache-2.0
"""`puna train-tokenizer` from files to a tokenizer that `puna tokenize` uses. PUNA is the program's path."""

import gzip
import json
import os
import subprocess
import tempfile
import unittest

from running_server import PATIENCE, PUNA


class TrainTokenizerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def puna(self, *arguments):
        return subprocess.run([PUNA, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE, cwd=self.folder)

    def output(self, *arguments):
        result = self.puna(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def assert_fails(self, code, says, *arguments):
        result = self.puna("train-tokenizer", *arguments)
        self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
        self.assertIn(says, result.stderr)

    def merges(self, *arguments):
        self.output("train-tokenizer", *arguments, "--force", "--out", self.path("merges.json"))
        with open(self.path("merges.json")) as file:
            return json.load(file)["model"]["merges"]

    def test_what_is_trained_tokenizes(self):
        text = self.path("llamas.txt", "The llama's wool is warm; the llamas' path is steep.\n" * 20)
        shown = self.output("train-tokenizer", text, "--vocab", "290")
        self.assertIn("tokenizer.json: 290 tokens (26 merges, 8 special) from 1.1 KB of text", shown)
        with open(self.path("tokenizer.json")) as file:
            written = json.load(file)
        self.assertEqual(written["model"]["merges"][0], "a m")
        self.assertEqual(len(written["model"]["vocab"]), 282)
        self.assertEqual([(token["id"], token["content"]) for token in written["added_tokens"]][0], (282, "<|begin_of_text|>"))
        tokens = json.loads(self.output("tokenize", "tokenizer.json", "the llamas\u00e9", "--json"))
        ids = self.path("ids.json", json.dumps(tokens))
        self.assertEqual(self.output("tokenize", "tokenizer.json", "--decode", ids).rstrip("\n"), "the llamas\u00e9")

    def test_every_kind_of_input(self):
        plain = self.merges(self.path("a.txt", "ab cd ab cd"))
        self.assertEqual(self.merges(self.path("a.jsonl", json.dumps({"text": "ab cd ab cd"}))), plain)
        self.assertEqual(self.merges(self.path("a.txt.gz", gzip.compress(b"ab cd ab cd"))), plain)
        messages = [{"role": "user", "content": "ab cd"}, {"role": "assistant", "content": "ab cd"}]
        chat = self.merges(self.path("chat.jsonl", json.dumps({"messages": messages})))
        self.assertEqual(chat, plain)
        os.mkdir(self.path("folder"))
        self.path("folder/1.txt", "ab cd")
        self.path("folder/2.txt", "ab cd")
        self.assertEqual(self.merges(self.path("folder")), plain)
        self.assertEqual(self.merges(self.path("folder/*.txt")), plain)
        self.assertEqual(self.merges(self.path("folder/1.txt"), self.path("folder/2.txt"), "--threads", "3"), plain)

    def test_documents_do_not_run_into_each_other(self):
        rows = self.path("rows.jsonl", '{"text": "a"}\n{"text": "b"}\n' * 5)
        self.assert_fails(3, "there is no text to train on", rows)
        self.assertEqual(self.merges(self.path("one.jsonl", '{"text": "ab"}\n{"text": "ab"}\n')), ["a b"])

    def test_special_tokens(self):
        text = self.path("a.txt", "ab ab")
        shown = json.loads(self.output("train-tokenizer", text, "--special", "<|tool|>", "--special", "<|x|>", "--reserved", "3", "--json"))
        self.assertEqual((shown["special_tokens"], shown["merges"], shown["tokens"]), (13, 1, 270))
        self.assertEqual(shown["rows"]["used"], 1)
        names = json.loads(self.output("tokenize", "tokenizer.json", "<|tool|><|x|>", "--special", "--json"))
        self.assertEqual(names["tokens"], [268, 269])
        self.output("train-tokenizer", text, "--only-special", "--special", "<s>", "--vocab", "258", "--force")
        self.assertEqual(json.loads(self.output("tokenize", "tokenizer.json", "", "--bos", "--json"))["tokens"], [257])

    def test_rows_that_cannot_be_used_are_counted(self):
        rows = self.path("rows.jsonl", '{"text": "ab ab"}\n{"text": 7}\n{"text":\n{"text": "ab"}\n')
        shown = self.output("train-tokenizer", rows)
        self.assertIn("note: no pair is left that occurs 2 times: the text is too small for 32000 tokens", shown)
        self.assertIn("2 rows used, 2 left out", shown)
        self.assertIn("rows.jsonl:2", shown)

    def test_what_is_refused(self):
        text = self.path("a.txt", "ab ab")
        self.assert_fails(2, "a vocabulary of 263 tokens, expected 264", text, "--vocab", "263")
        self.assert_fails(2, "<|eot_id|> is given twice", text, "--special", "<|eot_id|>")
        self.assert_fails(2, "249 reserved tokens, expected 0 to 248", text, "--reserved", "249")
        self.assert_fails(2, "--memory", text, "--memory", "0")
        self.assert_fails(4, "no such file", self.path("none.txt"))
        self.assertFalse(os.path.exists(self.path("tokenizer.json")))
        self.path("tokenizer.json", "mine")
        self.assert_fails(2, "exists already: --force overwrites it", text)
        self.assert_fails(2, "is a folder", text, "--out", self.folder)

    def test_the_text_is_not_overwritten(self):
        text = self.path("a.txt", "ab ab")
        os.symlink("a.txt", self.path("link.json"))
        os.mkdir(self.path("folder"))
        inside = self.path("folder/b.json", '{"text": "ab ab"}')
        for source, out in ((text, text), (text, self.path("link.json")), (self.path("folder"), inside), (self.path("*.txt"), text)):
            self.assert_fails(2, "this file is read", source, "--out", out, "--force")
        with open(text) as file:
            self.assertEqual(file.read(), "ab ab")
        self.output("train-tokenizer", text, "--out", inside, "--force")


if __name__ == "__main__":
    unittest.main()
