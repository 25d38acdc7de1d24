# SPDX-License-Identifier: Apache-2.0
"""What verbs write: never over what they read, and nothing under its name that is not complete. PUNA is the program's path."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest

from cli_test import TINY, CliTest, read_npy

TEXT = "The capital of Japan is Tokyo. "


class OutputFileTest(CliTest):
    def names(self):
        return sorted(os.listdir(self.folder))

    def content(self, path):
        with open(path, "rb") as file:
            return file.read()

    def tiny_copy(self, name):
        return shutil.copytree(TINY, self.path(name))

    def interrupted(self, appears, *arguments):
        """Runs until a name that `appears` accepts is there, then sends SIGINT. The exit code."""
        run = subprocess.Popen([os.environ["PUNA"], *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while run.poll() is None and not any(appears(name) for name in self.names()):
            time.sleep(0.001)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=120)
        return run.returncode


class Logits(OutputFileTest):
    def test_no_file_that_is_read_is_overwritten(self):
        model, ids = self.tiny_copy("model"), self.path("ids.json", "[1, 2, 3]")
        gguf = self.path("model.gguf")
        self.output("convert", TINY, gguf)
        os.symlink("ids.json", self.path("link.npy"))
        for of, out in ((gguf, gguf), (model, os.path.join(model, "model.safetensors")), (model, os.path.join(model, "config.json")),
                        (model, ids), (model, self.path("link.npy"))):
            before = self.content(out)
            self.assert_fails(2, "score", of, "--tokens", ids, "--logits", out, says="this file is read: give another name")
            self.assertEqual(self.content(out), before)
        text = self.path("text.txt", TEXT)
        self.assert_fails(2, "score", "nano", "--file", text, "--logits", text, says="this file is read")
        self.assertEqual(self.content(text), TEXT.encode())
        self.assert_fails(2, "score", model, "--tokens", ids, "--logits", self.folder, says="is a folder")
        self.assert_fails(2, "score", model, "--tokens", ids, "--logits", "/dev/null", says="is no file")

    def test_an_earlier_result_is_replaced_also_in_the_models_folder(self):
        model = self.tiny_copy("model")
        npy = os.path.join(model, "logits.npy")
        for ids in ([1, 2, 3], [1, 2]):
            self.json("score", model, "--tokens", "-", "--logits", npy, "--json", stdin=json.dumps(ids))
            self.assertEqual(read_npy(npy)[0], (len(ids), 64))

    def test_what_is_not_complete_leaves_the_earlier_result(self):
        npy = self.path("logits.npy")
        self.output("score", TINY, "--tokens", "-", "--logits", npy, stdin="[1]")
        before = self.content(npy)
        short = subprocess.run([os.environ["PUNA"], "score", TINY, "--tokens", "-", "--logits", npy], input=json.dumps([1] * 400), text=True,
                               capture_output=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        self.assertEqual((short.returncode, short.stdout), (3, ""), short.stderr)
        self.assertIn("logits.npy] cannot write the file", short.stderr)
        self.assertEqual((self.content(npy), self.names()), (before, ["logits.npy"]))

    def test_ctrl_c_leaves_nothing(self):
        text = self.path("text.txt", TEXT * 110)
        code = self.interrupted(lambda name: ".part-" in name, "score", "nano", "--file", text, "--logits", self.path("l.npy"))
        self.assertEqual((code, self.names()), (130, ["text.txt"]))


class Merged(OutputFileTest):
    def adapter(self, name):
        """One of rank 1 for one matrix of TINY, as PEFT writes them."""
        header, end = {}, 0
        for side, shape in (("A", [1, 32]), ("B", [32, 1])):
            begin, end = end, end + 4 * 32
            header["base_model.model.model.layers.0.self_attn.q_proj.lora_%s.weight" % side] = {
                "dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        os.mkdir(self.path(name))
        self.path(name + "/adapter_model.safetensors", struct.pack("<Q", len(text)) + text + bytes(end))
        self.path(name + "/adapter_config.json", json.dumps({"peft_type": "LORA", "lora_alpha": 1, "r": 1, "target_modules": ["q_proj"]}))
        return self.path(name)

    def folders(self, *names):
        return {path: self.content(path) for name in names for path in
                (os.path.join(self.path(name), file) for file in sorted(os.listdir(self.path(name))))}

    def test_a_folder_that_is_read_is_not_overwritten(self):
        base, other, adapter = self.tiny_copy("base"), self.tiny_copy("other"), self.adapter("adapter")
        os.symlink("base", self.path("link"))
        before = self.folders("base", "other", "adapter")
        for arguments in (["merge", base, adapter, base], ["merge", base, adapter, self.path("link")], ["merge", base, adapter, adapter],
                          ["average", base, base, other], ["average", other, base, other], ["average", other + "/", base, other]):
            self.assert_fails(2, *arguments, "--force", says="this is the model that is read: give another name")
        self.assertEqual(self.folders("base", "other", "adapter"), before)
        gguf = self.path("base.gguf")
        self.output("convert", base, gguf)
        self.assert_fails(2, "merge", gguf, adapter, gguf, "--force", says="this is the model that is read")
        for arguments in (["merge", base, adapter, self.path("out")], ["average", self.path("out"), base, other],
                          ["average", self.path("out"), base, gguf]):
            self.output(*arguments, "--force")
        self.assertEqual(self.folders("base", "other", "adapter"), before)

    def test_other_types_are_refused_by_name(self):
        base, adapter = self.tiny_copy("base"), self.adapter("adapter")
        for verb in (["merge", base, adapter, self.path("out")], ["average", self.path("out"), base, base]):
            self.assert_fails(2, *verb, "--type", "q8_0", says=["[--type] 'q8_0' is not", "expected f32, f16, bf16"])
            self.assert_fails(2, *verb, "--type", "bf61", says="did you mean bf16?")
        self.assertEqual(self.names(), ["adapter", "base"])


class Quantized(OutputFileTest):
    def test_a_wrong_text_is_noticed_before_anything_is_written(self):
        short = self.path("short.txt", "Hi")
        for code, says, flags in ((4, "none.txt] cannot open the file", ["--text", self.path("none.txt")]),
                                  (2, "short.txt] the text has", ["--text", short]),
                                  (2, "[--windows] 0 measures nothing", ["--text", short, "--windows", "0"]),
                                  (2, "this file is read", ["--text", self.path("x.gguf"), "--force"])):
            if "--force" in flags:
                self.path("x.gguf", TEXT * 200)
            self.assert_fails(code, "quantize", "nano", self.path("x.gguf"), "--type", "q8_0", *flags, says=says)
            if "--force" not in flags:
                self.assertEqual(self.names(), ["short.txt"])
        self.assertEqual(self.content(self.path("x.gguf")), (TEXT * 200).encode())
        self.assert_fails(7, "quantize", TINY, self.path("y.gguf"), "--type", "q8_0", "--text", short, says="no tokenizer")
        self.assertFalse(os.path.exists(self.path("y.gguf")))

    def test_ctrl_c_while_the_damage_is_measured_takes_the_model_away(self):
        text = self.path("text.txt", TEXT * 20000)
        quantize = ["quantize", "nano", self.path("out"), "--type", "fp8", "--text", text, "--windows", "-1"]
        self.assertEqual(self.interrupted(lambda name: name == "out", *quantize), 130)
        self.assertEqual(self.names(), ["text.txt"])
        quantize[2:5] = [self.path("x.gguf"), "--type", "q8_0"]
        self.assertEqual(self.interrupted(lambda name: name == "x.gguf", *quantize), 130)
        self.assertEqual(self.names(), ["text.txt"])

    def test_what_else_is_in_the_folder_stays(self):
        text, out = self.path("text.txt", TEXT * 20000), self.path("out")
        self.output("convert", "nano", out)
        self.path("out/notes.txt", "mine")
        weights = os.path.join(out, "model.safetensors")
        before = os.stat(weights).st_ino
        run = subprocess.Popen([os.environ["PUNA"], "quantize", "nano", out, "--type", "fp8", "--text", text, "--windows", "-1", "--force"],
                               env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while run.poll() is None and (os.stat(weights).st_ino == before or len(self.names()) > 2):  # until the draft is in place
            time.sleep(0.001)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=120)
        self.assertEqual((run.returncode, os.listdir(out)), (130, ["notes.txt"]))


if __name__ == "__main__":
    unittest.main()
