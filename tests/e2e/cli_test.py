# SPDX-License-Identifier: Apache-2.0
"""The built program as its user meets it: flags, errors, exit codes, JSON, standard input, Ctrl-C. PUNA is its path."""

import fcntl
import http.server
import json
import math
import os
import pty
import re
import shlex
import select
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

from running_server import PATIENCE, PUNA

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(ROOT, "tests", "golden", "model", "scaled", "hf")  # random weights, 64 tokens, no tokenizer
STORIES = os.path.join(os.path.dirname(ROOT), "shared", "data", "stories260K")
STORIES_GGUF = os.path.join(STORIES, "stories260K.gguf")
needs_stories = unittest.skipUnless(os.path.exists(STORIES_GGUF), "needs ../shared/data/stories260K")


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        self.environment.update(HOME=self.folder, HF_HOME=self.folder, XDG_STATE_HOME=self.folder + "/state", TERM="xterm")

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb" if isinstance(content, bytes) else "w") as file:
                file.write(content)
        return path

    def puna(self, *arguments, stdin="", **options):
        return subprocess.run([PUNA, *arguments], input=stdin, env=self.environment, capture_output=True, timeout=2 * PATIENCE,
                              text=isinstance(stdin, str), **options)

    def output(self, *arguments, **options):
        result = self.puna(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def json(self, *arguments, **options):
        return json.loads(self.output(*arguments, **options))

    def assert_fails(self, code, *arguments, says=(), stdin=""):
        result = self.puna(*arguments, stdin=stdin)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertTrue(result.stderr.startswith("puna: "), result.stderr)
        for part in (says,) if isinstance(says, str) else says:
            self.assertIn(part, result.stderr)


class CommandLine(CliTest):
    def test_the_model_inside_the_program_needs_no_file(self):
        empty = tempfile.TemporaryDirectory()
        self.addCleanup(empty.cleanup)
        answer = self.output("run", "-p", "What is the capital of France?", "--temp", "0", "--date", "26 Jul 2024", cwd=empty.name)
        self.assertIn("Paris", answer)
        self.assertEqual(self.output("run", "nano", "-p", "What is the capital of France?", "--temp", "0", "--date", "26 Jul 2024"), answer)
        tools = os.path.join(ROOT, "recipes", "nano", "tools.json")
        said = self.json("run", "nano", "--tools", tools, "-p", "What is 15% of 240?", "--temp", "0", "--date", "26 Jul 2024")
        self.assertEqual(said, {"tool_calls": [{"name": "calculator", "arguments": {"expression": "240 * 15 / 100"}}]})
        self.assertEqual(self.json("show", "nano", "--json")["name"], "nano")
        self.assert_fails(4, "run", "nanno", "-p", "x", says="did you mean nano?")
        recipe = self.path("recipe.yaml", json.dumps({
            "model": "nano", "data": [self.path("text.txt", "Bonjour, nano. " * 200)], "out": self.path("run"), "steps": 2,
            "sequence_length": 64, "step_tokens": 128, "batch_tokens": 128, "lora": {"rank": 2}}))
        self.assertEqual(self.puna("train", recipe).returncode, 0)
        self.output("merge", "nano", self.path("run/latest"), self.path("tuned"))
        self.assertIn("Paris", self.output("run", self.path("tuned"), "-p", "What is the capital of France?", "--temp", "0", "--date", "26 Jul 2024"))

    def test_help_and_version(self):
        self.assertRegex(self.output("--version"), r"^puna \d+\.\d+\.\d+\n$")
        self.assertIn("tokenize", self.output("--help"))
        self.assertEqual(self.output("help", "run"), self.output("run", "--help"))
        self.assertIn("Usage: puna run ", self.output("run", "-h"))
        self.assertIn("q4_k_m", self.output("quantize", "--help"))

    def test_wrong_words_name_the_nearest(self):
        self.assert_fails(2, "tokenise", says="unknown verb 'tokenise': did you mean tokenize?")
        self.assert_fails(2, "run", "x", "--tmp", "0", says="[run] unknown flag '--tmp': did you mean --temp?")
        self.assert_fails(2, "show", "x", "--tensor=1", says="unknown flag '--tensor': did you mean --tensors?")
        self.assert_fails(2, "help", "scroe", says="did you mean score?")
        self.assert_fails(2, "--jsno", says="unknown flag '--jsno'")
        self.assert_fails(2, "show", TINY, "extra", says="unexpected argument 'extra'")
        self.assert_fails(2, says="give a verb")

    def test_a_gpu_that_is_not_there(self):
        without = {"PUNA_CUDA_LIBRARY": "/nowhere/libpuna_cuda.so"}
        asked = subprocess.run([PUNA, "run", "nano", "-p", "Hello", "--device", "cuda"], capture_output=True, text=True, env={**os.environ, **without})
        self.assertEqual((asked.returncode, asked.stdout), (7, ""))
        self.assertIn("no GPU can be used", asked.stderr)
        self.assertIn("/nowhere/libpuna_cuda.so", asked.stderr)
        wished = subprocess.run([PUNA, "run", "nano", "-p", "Hello", "--temp", "0", "--device", "auto"], capture_output=True, text=True,
                                env={**os.environ, **without})
        self.assertEqual(wished.returncode, 0, wished.stderr)
        self.assertIn("on the CPU", wished.stderr)
        self.assertTrue(wished.stdout.strip())
        self.assert_fails(2, "run", "nano", "-p", "Hello", "--device", "gpu", says="expected cpu, cuda or cuda:N")

    def test_several_devices(self):
        ask = ["run", "nano", "-p", "What is the capital of Japan?", "--temp", "0", "--date", "26 Jul 2024"]
        self.assertEqual(self.output(*ask, "--device", "cpu:2"), self.output(*ask))
        self.assertIn("Tokyo", self.output(*ask, "--device", "cpu:2", "-t", "3"))
        self.assert_fails(7, *ask, "--device", "cpu:3", says=["do not split over 3 devices: use 1 or 2", "2 key/value heads"])
        self.assert_fails(2, *ask, "--device", "cpu:0", says="expected a number of ranks behind cpu:, from 1 to 255")
        self.assert_fails(2, *ask, "--device", "cuda:0,0", says="names GPU 0 twice")
        self.assert_fails(2, *ask, "--device", "cuda:0-", says="as in cuda:1, cuda:0,2 or cuda:0-3, or cuda:all")
        measured = self.json("bench", "nano", "-p", "16", "-n", "4", "-r", "1", "--device", "cpu:2", "--json")
        self.assertEqual((measured["device"], measured["ranks"]), ("cpu", 2))

    def test_stages(self):
        stages = ["--device", "cpu:3", "--pipeline", "3"]
        ask = ["run", "nano", "-p", "What is the capital of Japan?", "--date", "26 Jul 2024", "--seed", "3"]
        for more in ([], ["--lookup"], ["--draft", "nano"]):
            self.assertEqual(self.output(*ask, *more, *stages), self.output(*ask))
        self.assertEqual(self.output(*ask, "--temp", "0", "--device", "cpu:4", "--pipeline", "2"), self.output(*ask, "--temp", "0"))
        text = self.path("text.txt", "The capital of Japan is Tokyo. " * 60)
        for verb in (["score", "nano", "--text", "The capital of Japan is Tokyo."],
                     ["perplexity", "nano", "--file", text, "--window", "300", "--json"]):
            self.assertEqual(self.output(*verb, *stages), self.output(*verb), verb)
        asked = self.path("asked.jsonl", "".join(json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": 8}) + "\n"
                                                 for content in ("Hello", "2 + 2 =", "What is the capital of Japan?")))
        answers = []
        for name, flags in (("whole.jsonl", []), ("stages.jsonl", stages)):
            self.output("batch", "nano", asked, self.path(name), "--temp", "0", "--date", "26 Jul 2024", *flags)
            with open(self.path(name)) as file:
                answers.append([json.loads(line)["message"] for line in file])
        self.assertEqual(answers[1], answers[0])
        measured = self.json("bench", "nano", "-p", "16", "-n", "4", "-r", "1", "--device", "cpu:4", "--pipeline", "2", "--json")
        self.assertEqual((measured["stages"], measured["ranks"]), (2, 2))
        shown = self.json("show", "--shape", "70b", "--gpus", "2,3,6", "--pipeline", "3", "--json")
        self.assertEqual([row["splits"] for row in shown["gpus"]], [False, True, True])
        self.assert_fails(2, *ask, "--device", "cpu:3", "--pipeline", "2", says="2 stages cannot share 3 devices equally")
        self.assert_fails(2, *ask, "--pipeline", "0", says="--pipeline")
        self.assert_fails(7, *ask, "--device", "cpu:9", "--pipeline", "9", says="5 layers do not divide into 9 stages: give --pipeline 5")
        self.assert_fails(7, *ask, "--device", "cpu:3", says="or divide its layers: --pipeline 3")

    def test_what_fits_on_gpus_that_are_elsewhere(self):
        shown = self.json("show", "--shape", "70b", "--type", "fp8", "--gpus", "1,2", "--gpu-memory", "80GB", "--json")
        self.assertEqual([row["gpus"] for row in shown["gpus"]], [1, 2])
        self.assertLess(shown["gpus"][1]["memory"]["weights"], shown["gpus"][0]["memory"]["weights"])
        self.assertIn("use 1 or 2", self.output("show", "nano", "--gpus", "1,2,4"))
        self.assert_fails(2, "show", "--shape", "70b", "--gpus", "two", says="expected numbers of GPUs")
        self.assert_fails(2, "show", "--shape", "70b", "--gpu-memory", "80", says="as in 80GB")
        self.assert_fails(2, "show", says="give a MODEL, or --shape")

    def test_wrong_values(self):
        self.assert_fails(2, "score", says="MODEL is required")
        self.assert_fails(2, "run", TINY, "-n", "many", says=["--max-tokens", "many", "not a number"])
        self.assert_fails(2, "run", TINY, "--threads", "-3", says="--threads")
        self.assert_fails(2, "run", TINY, "--tokens", "x", "-p", "y", says="give one of them")
        self.assert_fails(2, "run", TINY, "--raw", "--system", "y", says="[--system] is for a chat")
        self.assert_fails(2, "run", TINY, "--raw", "--logprobs", "3", says="give --json too")
        self.assert_fails(2, "show", TINY, "--kv", "f61", says=["[--kv]", "did you mean f16?"])
        self.assert_fails(2, "score", TINY, "--tokens", "-", "--kv", "q9", stdin="[1]", says="expected f32, f16, bf16, q8_0, f8_e4m3")
        self.assert_fails(2, "quantize", TINY, "o.gguf", "--type", "q4_k_n", says=["q4_k_n", "q4_k_m"])
        self.assert_fails(2, "convert", TINY, "out", "--to", "gguf", says="let the name end in .gguf")
        self.assert_fails(2, "bench", says="give a MODEL, or --shape")
        self.assert_fails(2, "bench", "--shape", "2b", says="expected 1b, 3b, 8b, 70b or 405b")
        self.assert_fails(2, "completion", "bsh", says="did you mean bash?")

    def test_empty_values_are_refused(self):
        for flag in ("--json-schema", "--grammar", "--regex", "--tools", "--adapter", "--draft", "--format", "--temp"):
            self.assert_fails(2, "run", "nano", "-p", "Hello", flag, "", says="[run] %s: the value is empty" % flag)
            self.assert_fails(2, "run", "nano", flag + "=", "-p", "Hello", says="[run] %s: the value is empty" % flag)
        hello = ["run", "nano", "-p", "Hello", "-n", "4", "--temp", "0", "--date", "26 Jul 2024"]
        self.assertEqual(self.output(*hello, "--system", ""), self.output(*hello))
        self.assert_fails(2, "train", "pretrain-tiny", "--tokenizer=", "--plan", says="[tokenizer] a new model needs one")

    def test_files_that_may_not_be_read(self):
        user = 65534 if os.geteuid() == 0 else None  # modes do not hold for root
        os.chmod(self.folder, 0o755)
        gguf, folder = self.path("model.gguf"), self.path("folder")
        self.output("convert", TINY, gguf)
        self.output("convert", TINY, folder, "--to", "hf")
        os.chmod(gguf, 0)
        os.chmod(os.path.join(folder, "config.json"), 0)
        try:
            subprocess.run([PUNA, "--version"], user=user, check=True, capture_output=True)
        except PermissionError:
            self.skipTest("another user may not run the program")
        for verb in ("show", "tokenize"):
            result = self.puna(verb, gguf, user=user)
            self.assertEqual((result.returncode, result.stdout), (4, ""))
            self.assertIn("model.gguf] cannot open the file: Permission denied", result.stderr)
        result = self.puna("show", folder, user=user)
        self.assertEqual((result.returncode, result.stdout), (4, ""))
        self.assertIn("config.json] cannot open the file: Permission denied", result.stderr)
        os.chmod(folder, 0o311)
        self.addCleanup(os.chmod, folder, 0o755)
        result = self.puna("show", folder, user=user)
        self.assertEqual(result.returncode, 4)
        self.assertIn("folder] cannot open the folder: Permission denied", result.stderr)

    def test_absent_files(self):
        self.assert_fails(4, "show", self.path("none.gguf"), says="none.gguf] no such file")
        self.assert_fails(4, "run", "org/none", says="run puna pull org/none")
        self.assert_fails(4, "score", TINY, "--tokens", self.path("none.json"), says="cannot open the file")

    def test_the_reader_goes_away(self):
        result = subprocess.run("%s man | head -c 10 > /dev/null; echo ${PIPESTATUS[0]}" % shlex.quote(PUNA), shell=True, executable="/bin/bash", text=True,
                                capture_output=True, preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))
        self.assertIn(result.stdout.strip(), ("0", "141"))  # 0 where all of it fitted into the pipe
        self.assertEqual(result.stderr, "")
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run([PUNA, "man"], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        self.assertEqual((result.returncode, result.stderr), (141, b""))

    def test_a_full_disk(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([PUNA, "man"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 5)
        self.assertIn("[standard output] cannot write: No space left", result.stderr)

    def test_a_pipe_that_does_not_block(self):
        whole = self.output("man")
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(write, False)
        self.assertGreater(len(whole), 4096)
        run = subprocess.Popen([PUNA, "man"], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        time.sleep(0.2)  # the pipe is full by now
        with open(read) as pipe:
            self.assertEqual(pipe.read(), whole)
        self.assertEqual((run.communicate(timeout=PATIENCE)[1], run.returncode), (b"", 0))

    def test_a_link_in_a_circle(self):
        os.mkdir(self.path("model"))
        os.symlink("config.json", self.path("model/config.json"))
        self.assert_fails(3, "show", self.path("model"), says=["model/config.json] cannot be used: Too many levels of symbolic links"])

    def test_json_holds_no_control_characters(self):
        text = "a\u009b31mb\x7f\u0080é"
        said = self.output("tokenize", "nano", "--decode", "-", "--json", stdin=self.output("tokenize", "nano", "--json", stdin=text))
        self.assertNotRegex(said.removesuffix("\n"), "[\\x00-\\x1f\\x7f-\\x9f]")
        self.assertEqual(json.loads(said)["text"], text)

    def serve_replies(self, status, reply):
        """A server of another make, which answers everything so. Its address."""
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(reply).encode()
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return "http://127.0.0.1:%d" % server.server_port

    def test_a_server_of_another_make(self):
        own = {"state": "loaded", "bytes": 1}
        for reply in ({"data": [{"id": "m"}]}, {"data": [{"id": "m", "puna": {**own, "bytes": "1"}}]}, {"data": [5]}, {"data": 5}, []):
            host = self.serve_replies(200, reply)
            self.assert_fails(6, "ps", "--host", host, says=["[%s]" % host, "this is no puna serve"])
            self.assert_fails(6, "stop", "m", "--host", host, says="this is no puna serve")
        self.assertIn("loaded", self.output("ps", "--host", self.serve_replies(200, {"data": [{"id": "m", "puna": own}]})))
        for error, said in (({"message": 5}, "5"), ({"message": "busy"}, "busy"), ("busy", "busy"), ({"code": 1}, '{"code":1}')):
            host = self.serve_replies(500, {"error": error})
            self.assert_fails(6, "ps", "--host", host, says="[%s] %s\n" % (host, said))

    def test_generated_texts(self):
        scripts = {shell: self.output("completion", shell) for shell in ("bash", "zsh", "fish")}
        check = subprocess.run(["bash", "-n"], input=scripts["bash"], text=True, capture_output=True)
        self.assertEqual((check.returncode, check.stderr), (0, ""))
        self.assertTrue(scripts["zsh"].startswith("#compdef puna\n"))
        self.assertIn("-l temp", scripts["fish"])
        self.assertTrue(self.output("man").startswith(".TH PUNA 1"))

    def test_bash_completes(self):
        def complete(*words):
            line = 'source <(%s completion bash); PATH=%s:$PATH; COMP_WORDS=(puna %s); COMP_CWORD=%d; _puna; printf "%%s\\n" "${COMPREPLY[@]}"' % (
                shlex.quote(PUNA), shlex.quote(os.path.dirname(PUNA)), " ".join("'%s'" % word for word in words), len(words))
            result = subprocess.run(["bash", "-c", line], env=self.environment, text=True, capture_output=True, cwd=self.folder)
            return result.stdout.split()
        self.assertEqual(complete("tok"), ["tokenize"])
        self.assertEqual(complete("run", "--tem"), ["--temp"])
        self.assertEqual(complete("run", "x", "--kv", "f"), ["f32", "f16", "f8_e4m3"])
        self.assertEqual(complete("completion", "z"), ["zsh"])
        self.path("model.gguf", "x")
        self.assertEqual(complete("show", "mod"), ["model.gguf"])


class TinyModel(CliTest):
    def test_run_with_token_ids(self):
        ids = self.path("ids.json", "[1, 5, 9]")
        answer = self.json("run", TINY, "--tokens", ids, "-n", "8", "--temp", "0", "--json")
        self.assertEqual(len(answer["tokens"]), 8)
        self.assertTrue(all(0 <= token < 64 for token in answer["tokens"]))
        self.assertEqual((answer["finish_reason"], answer["prompt_tokens"]), ("length", 3))
        self.assertNotIn("text", answer)
        again = self.json("run", TINY, "--tokens", "-", "-n", "8", "--temp", "0", stdin='{"tokens": [1, 5, 9]}')
        self.assertEqual(again, answer["tokens"])
        decimal = self.json("run", TINY, "--tokens", ids, "-n", "010", "--temp", "0")
        self.assertEqual((len(decimal), decimal[:8]), (10, answer["tokens"]))
        stopped = self.json("run", TINY, "--tokens", ids, "-n", "8", "--temp", "0", "--json", "--stop-token", str(answer["tokens"][2]))
        self.assertEqual(stopped["tokens"], answer["tokens"][:answer["tokens"].index(answer["tokens"][2])])

    def test_greedy_tokens_are_those_of_the_logits(self):
        answer = self.json("run", TINY, "--tokens", "-", "-n", "4", "--temp", "0", "--json", "--logprobs", "2", "--kv", "f32",
                           stdin="[1, 5, 9]")
        tokens = [1, 5, 9] + answer["tokens"]
        scores = self.json("score", TINY, "--tokens", "-", "--json", stdin=json.dumps(tokens))
        for step, sampled in enumerate(answer["logprobs"]):
            self.assertEqual(sampled["top"][0]["token"], sampled["token"])
            self.assertEqual(len(sampled["top"]), 2)
            self.assertAlmostEqual(sampled["logprob"], scores["logprobs"][3 + step], places=4)

    def test_seeds(self):
        def draw(*flags):
            return self.json("run", TINY, "--tokens", "-", "-n", "20", "--temp", "2", "--top-p", "1", *flags, stdin="[1]")
        self.assertEqual(draw("--seed", "3"), draw("--seed", "3"))
        self.assertNotEqual(draw("--seed", "3"), draw("--seed", "4"))
        self.assertNotEqual(draw(), draw())
        self.assertEqual(draw("--logit-bias", "7=100"), [7] * 20)

    def test_score_writes_logits(self):
        npy = self.path("logits.npy")
        tokens = [(7 * i * i + 13 * i + 5) % 64 for i in range(10)]
        scores = self.json("score", TINY, "--tokens", "-", "--logits", npy, "--json", stdin=json.dumps(tokens))
        self.assertEqual(scores["tokens"], tokens)
        self.assertIsNone(scores["logprobs"][0])
        self.assertTrue(all(value < 0 for value in scores["logprobs"][1:]))
        shape, whole = read_npy(npy)
        self.assertEqual(shape, (10, 64))
        self.json("score", TINY, "--tokens", "-", "--logits", npy, "--positions", "0,4,9", "--json", stdin=json.dumps(tokens))
        shape, chosen = read_npy(npy)
        self.assertEqual(shape, (3, 64))
        self.assertEqual(chosen, [whole[0], whole[4], whole[9]])

    def test_score_refuses(self):
        self.assert_fails(2, "score", TINY, "--tokens", "-", stdin="[]", says="there are no tokens")
        self.assert_fails(3, "score", TINY, "--tokens", "-", stdin="[1, 64]", says="64")
        self.assert_fails(3, "score", TINY, "--tokens", "-", stdin="[1, 2", says="not valid JSON")
        self.assert_fails(2, "score", TINY, "--tokens", "-", "--logits", self.path("l.npy"), "--positions", "0,2", stdin="[1, 2]",
                          says="position 2 is past the last of 2 tokens")
        self.assertFalse(os.path.exists(self.path("l.npy")))
        self.assert_fails(2, "score", TINY, "--tokens", "-", "--positions", "0", stdin="[1]", says="--logits")

    def test_no_tokenizer(self):
        self.assert_fails(7, "run", TINY, "--raw", "-p", "Hello", says="--tokens")
        self.assert_fails(2, "run", TINY, "--tokens", "-", "--stop-token", "<|eot_id|>", stdin="[1]", says="--stop-token")

    def test_show(self):
        shown = self.json("show", TINY, "--json", "--tensors")
        self.assertEqual(shown["family"], "llama")
        self.assertEqual(shown["config"]["vocabulary"], 64)
        self.assertIsNone(shown["tokenizer"])
        stored = sum(tensor["bytes"] for tensor in shown["tensors"])
        self.assertEqual(stored, shown["weight_bytes"])
        self.assertEqual(sum(row["tensors"] for row in shown["formats"].values()), len(shown["tensors"]))
        self.assertTrue(shown["memory"]["fits"])
        half, full = (self.json("show", TINY, "--json", "-c", "4096", "--kv", kv)["memory"]["kv"] for kv in ("f16", "f32"))
        self.assertEqual(full, 2 * half)
        self.assertIn("Hugging Face folder", self.output("show", TINY))

    def test_bench(self):
        result = self.json("bench", TINY, "-p", "32", "-n", "4", "-r", "1", "-t", "1", "--json")
        for key in ("prefill_tps", "decode_tps", "peak_rss_bytes", "load_ms"):
            self.assertGreater(result[key], 0, key)
        self.assertIsNone(self.json("bench", TINY, "-p", "0", "-n", "2", "-r", "1", "--json")["prefill_tps"])

    def test_quantize_and_convert_keep_the_model(self):
        gguf, folder, small = self.path("model.gguf"), self.path("folder"), self.path("small.gguf")
        self.assertTrue(self.json("convert", TINY, gguf, "--json")["lossless"])
        self.json("convert", gguf, folder, "--to", "hf", "--json")
        ask = ["--tokens", "-", "--json"]
        scores = [self.json("score", model, *ask, stdin="[1, 2, 3, 4]")["logprobs"] for model in (TINY, gguf, folder)]
        for other in scores[1:]:  # sums run in another order: the rows of queries and keys do
            for a, b in zip(scores[0][1:], other[1:]):
                self.assertAlmostEqual(a, b, places=6)
        report = self.json("quantize", gguf, small, "--type", "q8_0", "--json")
        self.assertLess(report["bytes_out"], report["bytes_in"])
        self.assertLess(report["relative_error"], 0.02)
        self.assert_fails(2, "quantize", gguf, small, "--type", "q8_0", says="--force")
        self.json("quantize", gguf, small, "--type", "q8_0", "--force", "--json")

    def test_a_cut_file_is_refused(self):
        whole = self.path("model.gguf")
        self.output("convert", TINY, whole)
        with open(whole, "rb") as file:
            data = file.read()
        for part in (4, 100, len(data) // 2, len(data) - 1):
            self.assert_fails(3, "show", self.path("cut.gguf", data[:part]), says="cut.gguf]")
        self.assert_fails(3, "show", self.path("text.gguf", "hello, this is no model at all\n" * 10), says="text.gguf]")
        self.assert_fails(3, "show", self.path("empty.gguf", b""), says="empty.gguf")


class Interrupts(CliTest):
    """Ctrl-C while a model is written: the file system has to look as before."""

    def large_model(self):
        """A model of 0.6 billion zeros, whose file takes no room on the disk: converting it lasts seconds."""
        width, inner, layers, vocabulary = 2048, 8192, 8, 32000
        shapes = {"model.embed_tokens.weight": [vocabulary, width], "model.norm.weight": [width]}
        for layer in range(layers):
            name = "model.layers.%d." % layer
            for matrix in "qkvo":
                shapes[name + "self_attn.%s_proj.weight" % matrix] = [width, width]
            for matrix in ("gate", "up"):
                shapes[name + "mlp.%s_proj.weight" % matrix] = [inner, width]
            shapes[name + "mlp.down_proj.weight"] = [width, inner]
            for norm in ("input", "post_attention"):
                shapes[name + norm + "_layernorm.weight"] = [width]
        header, end = {}, 0
        for name, shape in shapes.items():
            begin, end = end, end + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        os.mkdir(self.path("large"))
        with open(self.path("large/model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
        self.path("large/config.json", json.dumps({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": width, "intermediate_size": inner,
            "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": vocabulary,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "max_position_embeddings": 2048}))
        return self.path("large")

    def test_what_is_not_finished_is_taken_away(self):
        model = self.large_model()
        before = sorted(os.listdir(self.folder))
        for arguments in (["quantize", model, self.path("out.gguf"), "--type", "q4_k_m"],
                          ["quantize", model, self.path("out"), "--type", "fp8"],
                          ["convert", model, self.path("out.gguf")],
                          ["convert", model, self.path("out"), "--to", "meta"]):
            with self.subTest(" ".join(arguments)):
                run = subprocess.Popen([PUNA, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                while run.poll() is None and sorted(os.listdir(self.folder)) == before:
                    time.sleep(0.001)
                self.assertTrue(any(".part-" in name for name in os.listdir(self.folder)), "the draft is seen before its end")
                run.send_signal(signal.SIGINT)
                output, errors = run.communicate(timeout=60)
                self.assertEqual((run.returncode, output, errors), (130, b"", b""))
                self.assertEqual(sorted(os.listdir(self.folder)), before)


@needs_stories
class Stories(CliTest):
    def greedy(self):
        with open(os.path.join(STORIES, "stories260K_greedy200.txt")) as file:
            return file.read()

    def test_raw_greedy_text_is_what_other_engines_print(self):
        text = self.output("run", STORIES_GGUF, "--raw", "-p", "", "-n", "200", "--temp", "0")
        self.assertGreaterEqual(len(text), 460)
        self.assertTrue(self.greedy().startswith(text[:463]))
        continued = self.output("run", STORIES_GGUF, "--raw", "-p", "Once upon a time", "-n", "20", "--temp", "0")
        self.assertTrue(self.greedy().startswith("Once upon a time" + continued))

    def test_standard_input_and_files(self):
        expected = self.output("run", STORIES_GGUF, "--raw", "-p", "Lily", "-n", "5", "--temp", "0")
        self.assertEqual(self.output("run", STORIES_GGUF, "--raw", "-n", "5", "--temp", "0", stdin="Lily"), expected)
        prompt = self.path("prompt.txt", "Lily")
        self.assertEqual(self.output("run", STORIES_GGUF, "--raw", "-f", prompt, "-n", "5", "--temp", "0"), expected)

    def test_json_and_stops(self):
        run = ["run", STORIES_GGUF, "--raw", "-p", "", "--temp", "0", "--json", "-n", "60"]
        answer = self.json(*run)
        self.assertEqual(len(answer["tokens"]), 60)
        self.assertTrue(self.greedy().startswith(answer["text"]))
        stopped = self.json(*run, "--stop", "little girl")
        self.assertEqual(stopped["finish_reason"], "stop string")
        self.assertEqual(stopped["text"], answer["text"][:answer["text"].index("little girl")])
        self.assertEqual(self.json(*run, "--stop-token", str(answer["tokens"][9]))["finish_reason"], "stop token")

    def test_proposals_change_nothing(self):
        for sampling in (["--temp", "0"], ["--temp", "0.8", "--seed", "4"]):
            run = ["run", STORIES_GGUF, "--raw", "-p", "Once upon a time", "-n", "120", "--json", "--logprobs", "1", *sampling]
            plain = self.json(*run)
            for flags in (["--lookup"], ["--draft", STORIES_GGUF], ["--draft", STORIES_GGUF, "--draft-tokens", "1"]):
                answer = self.json(*run, *flags)
                for key in ("tokens", "text", "finish_reason", "logprobs"):
                    self.assertEqual(answer[key], plain[key])
                if "--draft" in flags:
                    self.assertGreater(answer["accepted"], 50)
                    self.assertEqual(answer["accepted"], answer["drafted"])  # a model is always right about itself
        self.assert_fails(2, "run", STORIES_GGUF, "-p", "x", "--raw", "--draft", "nano", says="give a draft model with the same vocabulary")
        self.assert_fails(2, "run", STORIES_GGUF, "-p", "x", "--raw", "--draft", STORIES_GGUF, "--lookup", says="--lookup")

    def test_answers_of_a_given_shape(self):
        run = ["run", STORIES_GGUF, "--raw", "-p", "Lily said", "--seed", "3", "-n", "200"]
        schema = {"type": "object", "properties": {"who": {"enum": ["Lily", "Tom"]}, "sad": {"type": "boolean"}}, "required": ["who", "sad"]}
        for given in (json.dumps(schema), self.path("schema.json", json.dumps(schema))):
            answer = json.loads(self.output(*run, "--json-schema", given))
            self.assertEqual(list(answer), ["who", "sad"])
            self.assertIn(answer["who"], ("Lily", "Tom"))
            self.assertIsInstance(answer["sad"], bool)
        whole = self.json(*run, "--json", "--regex", "(yes|no)!{2,3}")
        self.assertRegex(whole["text"], r"\A(yes|no)!{2,3}\Z")
        self.assertEqual(whole["finish_reason"], "end token")
        grammar = self.path("sums.gbnf", 'root ::= sum "." # ends\nsum ::= [0-9]{1,3} | "(" sum "+" sum ")"\n')
        text = self.output(*run, "--grammar", grammar)
        self.assertRegex(text, r"\A[0-9()+]+\.\Z")
        self.assertEqual(text.count("("), text.count(")"))
        self.assert_fails(2, *run, "--regex", "a", "--grammar", grammar, says="give one of")
        self.assert_fails(7, *run, "--json-schema", '{"not": {"type": "string"}}', says="[--json-schema#/not]")
        self.assert_fails(3, *run, "--grammar", self.path("bad.gbnf", "root ::= \"a\" b\n"), says=["bad.gbnf] line 1, column 14"])
        self.assert_fails(7, *run, "--regex", "a(?=b)", says="[--regex] character 2: look-ahead")
        self.assert_fails(2, *run, "--regex", "a", "--ignore-eos", says="--ignore-eos")
        self.assert_fails(4, *run, "--json-schema", self.path("none.json"), says="none.json")

    def test_tokenize(self):
        ids = self.json("tokenize", STORIES_GGUF, "--json", "Once upon a time")
        self.assertEqual(ids, {"tokens": [403, 407, 261, 378]})
        self.assertEqual(self.json("tokenize", STORIES_GGUF, "--json", "--bos", stdin="Once upon a time")["tokens"], [1, 403, 407, 261, 378])
        self.assertEqual(self.output("tokenize", STORIES_GGUF, "--decode", "-", stdin=json.dumps(ids)), "Once upon a time")
        bare = os.path.join(STORIES, "tok512.model")
        self.assertEqual(self.json("tokenize", bare, "--json", "Once upon a time"), ids)
        verb = self.json("tokenize", STORIES_GGUF, "--json", "list")
        self.assertEqual(verb, self.json("tokenize", STORIES_GGUF, "--json", stdin="list"), "a text that is also a verb")
        self.assertIn("403  \" Once\"", self.output("tokenize", STORIES_GGUF, "Once"))
        self.assert_fails(3, "tokenize", STORIES_GGUF, "--decode", "-", stdin="[512]", says="ids are 0 to 511")
        self.assert_fails(2, "tokenize", STORIES_GGUF, "text", "--file", "x", says="give one of them")
        binary = b"\xff\x00\x80a"
        ids = self.puna("tokenize", STORIES_GGUF, "--json", stdin=binary).stdout
        self.assertEqual(self.puna("tokenize", STORIES_GGUF, "--decode", "-", stdin=ids).stdout, binary)

    def test_perplexity(self):
        text = self.path("text.txt", self.greedy() * 2)
        alone = self.json("perplexity", STORIES_GGUF, "--file", text, "--window", "64", "--json")
        self.assertLess(alone["perplexity"], 3, "the model's own text")
        self.assertGreater(alone["tokens"], 100)
        both = self.json("perplexity", STORIES_GGUF, "--base", STORIES_GGUF, "--file", text, "--window", "64", "--json")
        self.assertAlmostEqual(both["perplexity"], alone["perplexity"], places=6)
        self.assertLess(both["kl"]["max"], 1e-9)
        self.assertEqual(both["same_top"], 1)
        self.assert_fails(2, "perplexity", STORIES_GGUF, "--file", self.path("short.txt", "Hi"), says="longer text")

    def test_context_too_small(self):
        self.assert_fails(5, "run", STORIES_GGUF, "--raw", "-c", "64", "-p", "word " * 200, says=["context", "64"])
        self.assert_fails(2, "run", STORIES_GGUF, "--raw", "-c", "100000", "-p", "x", says="512")

    def test_unknown_chat_format(self):
        self.assert_fails(7, "run", STORIES_GGUF, "-p", "Hello", says=["--raw", "--format"])
        self.assert_fails(2, "run", STORIES_GGUF, "-p", "Hello", "--format", "lama2", says="did you mean llama2?")

    def test_interrupt_ends_with_130_and_keeps_what_was_written(self):
        run = subprocess.Popen([PUNA, "run", STORIES_GGUF, "--raw", "-p", "", "--ignore-eos", "--temp", "0", "-n", "100000"],
                               env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        first = run.stdout.read(10)
        run.send_signal(signal.SIGINT)
        rest, errors = run.communicate(timeout=30)
        if run.returncode != 0:  # 0: the context was full before the signal came
            self.assertEqual(run.returncode, 130, errors)
        self.assertTrue(self.greedy().startswith((first + rest).decode()[:460]))


@needs_stories
class Chat(CliTest):
    """On a terminal of its own."""

    def start(self, *arguments, model=STORIES_GGUF):
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.execve(PUNA, [PUNA, "run", model, "--format", "llama2", "--temp", "0", *arguments], self.environment)
        self.pid, self.seen = pid, ""
        self.addCleanup(self.stop)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.wait_for(">>> ")

    def stop(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)

    def type(self, text):
        self.seen = ""
        os.write(self.terminal, text.encode())

    def wait_until(self, holds, seconds=60):
        end = time.time() + seconds
        while not holds() and time.time() < end:
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.terminal, 4096).decode(errors="replace")
                except OSError:
                    break
        self.assertTrue(holds(), self.seen)

    def wait_for(self, text):
        self.wait_until(lambda: text in self.seen)

    def wait_for_editor(self, prompt=">>> "):
        """Behind the prompt, as soon as it reads keys: what comes before, a Ctrl-C takes away in the terminal."""
        self.wait_for(prompt)
        self.wait_until(lambda: not termios.tcgetattr(self.terminal)[3] & termios.ICANON)

    def exit_code(self):
        for _ in range(300):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.terminal, 4096).decode(errors="replace")
                except OSError:
                    time.sleep(0.1)
        return None

    def test_commands(self):
        self.start("-n", "8")
        self.type("/help\r")
        self.wait_for("/system")
        self.type("/sett temp 1\r")
        self.wait_for("did you mean /set?")
        self.type("/set temp 9x\r")
        self.wait_for("'9x' is not a number")
        self.type("/system Be kind.\r")
        self.wait_for(">>> ")
        self.type("Hello\r")
        self.wait_for(">>> ")
        saved = self.path("chat.json")
        self.type("/save %s\r" % saved)
        self.wait_for("3 messages")
        with open(saved) as file:
            roles = [message["role"] for message in json.load(file)["messages"]]
        self.assertEqual(roles, ["system", "user", "assistant"])
        self.type("/clear\r")
        self.wait_for("forgotten")
        self.type("/load %s\r" % saved)
        self.wait_for("3 messages from")
        self.type("/stats\r")
        self.wait_for("positions used")
        self.type("/quit\r")
        self.assertEqual(self.exit_code(), 0)

    def test_several_lines_and_history(self):
        self.start("-n", "4")
        self.type('"""one\r')
        self.wait_for("... ")
        self.type('two"""\r')
        self.wait_for(">>> ")
        saved = self.path("chat.json")
        self.type("/save %s\r" % saved)
        self.wait_for("2 messages")
        with open(saved) as file:
            self.assertEqual(json.load(file)["messages"][0]["content"], "one\ntwo")
        self.type("\x1b[A")  # up: the last line typed
        self.wait_for("/save")
        self.type("\x15\x04")  # erase the line, then Ctrl-D
        self.assertEqual(self.exit_code(), 0)
        history = os.path.join(self.folder, "state", "puna", "history")
        self.assertEqual(os.stat(history).st_mode & 0o777, 0o600)

    def test_a_quoted_message_is_no_command(self):
        self.start("-n", "4")
        self.type('"""/clear is\r')
        self.wait_for("... ")
        self.type('what?"""\r')
        self.wait_for(">>> ")
        self.type('"""/help"""\r')
        self.wait_for(">>> ")
        saved = self.path("chat.json")
        self.type("/save %s\r" % saved)
        self.wait_for("4 messages")
        with open(saved) as file:
            asked = [message["content"] for message in json.load(file)["messages"] if message["role"] == "user"]
        self.assertEqual(asked, ["/clear is\nwhat?", "/help"])
        self.type("/quit\r")
        self.assertEqual(self.exit_code(), 0)

    def test_sigterm_ends_the_chat(self):
        self.start("-n", "4")
        self.seen = ""
        os.kill(self.pid, signal.SIGTERM)
        self.assertEqual(self.exit_code(), 143)
        self.assertNotIn("once more", self.seen)
        self.assertNotIn("^C", self.seen)

    def test_sigterm_ends_the_answer_too(self):
        self.start("--ignore-eos", model=self.endless_stories())
        self.type("Tell me a story\r")
        self.wait_until(lambda: len(self.seen.partition("story")[2]) > 40)  # the answer has begun
        os.kill(self.pid, signal.SIGTERM)
        self.assertEqual(self.exit_code(), 143)

    def endless_stories(self):
        """The same weights with room for 131,072 positions: an answer that does not end before it is interrupted."""
        with open(STORIES_GGUF, "rb") as file:
            data = file.read()
        key = b"llama.context_length" + struct.pack("<I", 4)  # a uint32 follows
        self.assertEqual(data.count(key), 1)
        value = data.index(key) + len(key)
        return self.path("endless.gguf", data[:value] + struct.pack("<I", 131072) + data[value + 4:])

    def test_interrupt_stops_the_answer_and_not_the_program(self):
        self.start("--ignore-eos", model=self.endless_stories())
        self.type("Tell me a story\r")
        self.wait_until(lambda: len(self.seen.partition("story")[2]) > 40)  # the answer has begun
        self.type("\x03")
        self.wait_for(">>> ")
        self.type("\x03")
        self.wait_for("once more")
        self.type("/stats\r")
        self.wait_for("positions used")
        self.wait_for(">>> ")
        self.type("\x03")
        self.wait_for("once more")
        self.wait_for(">>> ")
        self.type("\x03")
        self.assertEqual(self.exit_code(), 0)

    def test_an_interrupt_clears_a_line_and_not_the_chat(self):
        self.start("-n", "4")
        self.wait_for_editor()
        for typed in ("half", "another", '"""quoted\r', '"""\r'):
            self.type(typed)
            if typed.endswith("\r"):
                self.wait_for_editor("... ")
            else:
                self.wait_for(typed)
            self.type("\x03")
            self.wait_for_editor()
            self.assertNotIn("once more", self.seen)
        self.type("\x03")
        self.wait_for("once more")
        self.wait_for_editor()
        self.type("a line")  # begins the count anew
        self.wait_for("a line")
        self.type("\x03")
        self.wait_for_editor()
        self.type("\x03")
        self.wait_for("once more")
        self.wait_for_editor()
        self.type("\x03")
        self.assertEqual(self.exit_code(), 0)


def read_npy(path):
    """Shape and rows of a float32 .npy file, without NumPy."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    length = struct.unpack("<H", data[8:10])[0]
    header = data[10:10 + length].decode()
    assert "'<f4'" in header and "'fortran_order': False" in header
    shape = tuple(int(n) for n in re.search(r"\((\d+), (\d+)\)", header).groups())
    values = struct.unpack("<%df" % (shape[0] * shape[1]), data[10 + length:])
    return shape, [list(values[r * shape[1]:(r + 1) * shape[1]]) for r in range(shape[0])]


if __name__ == "__main__":
    unittest.main()
