# SPDX-License-Identifier: Apache-2.0
"""Training as its user meets it: recipes, flags, a tokenizer and a model from nothing, interrupts and kills. PUNA is its path."""

import glob
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
import unittest

from running_server import PATIENCE, PUNA

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STORIES_GGUF = os.path.join(os.path.dirname(ROOT), "shared", "data", "stories260K", "stories260K.gguf")
needs_stories = unittest.skipUnless(os.path.exists(STORIES_GGUF), "needs ../shared/data/stories260K")


def sentences(count, seed):
    pick = random.Random(seed).choice
    who, does, what = ["the cat", "the dog", "a bird"], ["sees", "likes", "follows"], ["the sun", "a tree", "the river"]
    return "".join("%s %s %s.\n" % (pick(who), pick(does), pick(what)) for _ in range(count))


class TrainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        cls.corpus = os.path.join(cls.shared.name, "corpus.txt")
        with open(cls.corpus, "w") as file:
            file.write(sentences(3000, 1))
        cls.tokenizer = os.path.join(cls.shared.name, "tokenizer.json")
        subprocess.run([PUNA, "train-tokenizer", cls.corpus, "--vocab", "300", "--out", cls.tokenizer], check=True,
                       capture_output=True)

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def recipe(self, **more):
        recipe = {"tokenizer": self.tokenizer, "data": [self.corpus], "out": self.path("run"), "sequence_length": 32,
                  "step_tokens": 128, "batch_tokens": 64, "steps": 40,
                  "new_model": {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "feed_forward": 64},
                  "optimizer": {"learning_rate": 0.01}}
        recipe.update(more)
        path = self.path("recipe.yaml")
        with open(path, "w") as file:
            json.dump(recipe, file)  # JSON is YAML
        return path

    def puna(self, *arguments, code=0, **options):
        result = subprocess.run([PUNA, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE, cwd=self.folder, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def model_hash(self, out):
        digest = hashlib.sha256()
        for name in ("model.safetensors", "training_state.bin"):
            with open(os.path.join(out, "latest", name), "rb") as file:
                digest.update(file.read())
        return digest.hexdigest()

    def test_a_model_from_nothing_and_back(self):
        result = self.puna("train", self.recipe())
        self.assertIn("step 40/40", result.stderr)
        self.assertIn("finished at step 40", result.stderr)
        text = self.puna("run", self.path("run/latest"), "--raw", "-p", "the cat", "-n", "4", "--temp", "0").stdout
        self.assertTrue(text.strip().split()[0] in ("sees", "likes", "follows"), text)
        self.puna("convert", self.path("run/latest"), self.path("model.gguf"))
        again = self.puna("run", self.path("model.gguf"), "--raw", "-p", "the cat", "-n", "4", "--temp", "0").stdout
        self.assertEqual(text, again)

    def test_events_as_json(self):
        lines = [json.loads(line) for line in self.puna("train", self.recipe(steps=3), "--json").stdout.splitlines()]
        self.assertEqual([line["event"] for line in lines], ["began", "step", "step", "step", "checkpoint", "finished"])
        with open(self.path("run/metrics.jsonl")) as file:
            metrics = [json.loads(line) for line in file]
        self.assertEqual([line["loss"] for line in metrics], [line["loss"] for line in lines if line["event"] == "step"])

    def test_interrupted_and_resumed(self):
        self.puna("train", self.recipe(out=self.path("whole")))
        for signal_sent, folder in ((signal.SIGINT, "run"), (signal.SIGTERM, "ended")):
            recipe = self.recipe(out=self.path(folder))
            process = subprocess.Popen([PUNA, "train", recipe, "--json"], stdout=subprocess.PIPE, text=True, cwd=self.folder)
            for line in process.stdout:
                if json.loads(line).get("step") == 7:
                    process.send_signal(signal_sent)
                    break
            process.stdout.read()
            process.stdout.close()
            self.assertEqual(process.wait(), 130)
            self.puna("train", self.path(folder), "--resume")
            self.assertEqual(self.model_hash(self.path(folder)), self.model_hash(self.path("whole")))

    def assert_checkpoints_are_whole(self):
        for manifest in glob.glob(self.path("run/checkpoints/step-*/manifest.json")):
            with open(manifest) as file:
                for name, expected in json.load(file)["files"].items():
                    with open(os.path.join(os.path.dirname(manifest), name), "rb") as content:
                        self.assertEqual(hashlib.sha256(content.read()).hexdigest(), expected["sha256"], name)

    def test_several_devices(self):
        recipe = self.recipe(device="cpu:2", steps=3)
        self.assertIn("copy while it saves", self.puna("train", recipe, "--plan").stdout)
        refused = self.puna("train", recipe, "--device=cpu:4", code=7).stderr
        self.assertIn("do not split over 4 devices: use 1 or 2", refused)
        self.assertNotIn("--pipeline", refused)
        trained = self.puna("train", recipe).stderr
        self.assertIn("2 devices, which add up by way of the host's memory", trained)
        self.assertIn("finished at step 3", trained)
        self.puna("show", self.path("run/latest"))

    def test_killed_at_any_moment_and_resumed(self):
        self.kill_and_resume(8, steps=400)

    def test_killed_on_several_devices_and_resumed(self):
        self.kill_and_resume(4, steps=150, device="cpu:2")

    def kill_and_resume(self, times, **fields):
        recipe = dict(watch={"checkpoint_every": 2}, **fields)
        start = time.time()
        self.puna("train", self.recipe(out=self.path("whole"), **recipe))
        takes = time.time() - start
        chance = random.Random(5)
        arguments = [PUNA, "train", self.recipe(**recipe)]
        for _ in range(times):
            process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)
            try:
                process.wait(chance.uniform(0, takes))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if os.path.exists(self.path("run/recipe.yaml")):
                arguments = [PUNA, "train", self.path("run"), "--resume"]
            self.assert_checkpoints_are_whole()
        self.puna(*arguments[1:])
        self.assertEqual(self.model_hash(self.path("run")), self.model_hash(self.path("whole")))
        self.assertEqual(glob.glob(self.path("run/checkpoints/.unfinished*")), [])

    def test_a_disk_that_takes_no_more(self):
        recipe = self.recipe(watch={"checkpoint_every": 5}, steps=5)
        self.puna("train", recipe)
        before = self.model_hash(self.path("run"))

        def allow_small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

        result = self.puna("train", self.path("run"), "--resume", "--steps", "10", code=3, preexec_fn=allow_small_files)
        self.assertIn("cannot write", result.stderr)
        self.assertEqual(self.model_hash(self.path("run")), before)
        self.puna("train", self.path("run"), "--resume", "--steps", "10")

    def test_wrong_recipes(self):
        self.assertIn("there is no key 'stpes': did you mean steps?",
                      self.puna("train", self.recipe(stpes=3), code=3).stderr)
        self.assertIn("unknown flag '--optimizer.learning_rat': did you mean --optimizer.learning_rate?",
                      self.puna("train", self.recipe(), "--optimizer.learning_rat", "1", code=2).stderr)
        self.assertIn("expected a whole number", self.puna("train", self.recipe(), "--steps", "many", code=2).stderr)
        self.assertIn("absent.txt", self.puna("train", self.recipe(data=["absent.txt"]), code=4).stderr)
        self.assertIn("did you mean reward-8b?", self.puna("train", "rewad-8b", code=4).stderr)
        self.assertIn("holds no run to resume", self.puna("train", self.recipe(), "--resume", code=4).stderr)
        self.assertIn("does not divide the width", self.puna("train", self.recipe(), "--new_model.heads", "5", code=2).stderr)
        self.assertFalse(os.path.exists(self.path("run")))

    def test_a_later_length_under_which_no_row_can_be_used(self):
        with open(self.path("long.jsonl"), "w") as file:
            for i in range(12):
                file.write(json.dumps({"prompt": "the cat", "completion": " sees the sun %d" % i + " and a tree" * 8}) + "\n")
        stages = [{"name": "one", "steps": 2}, {"name": "two", "steps": 2, "sequence_length": 16}]
        recipe = self.recipe(data=[self.path("long.jsonl")], objective="sft", reading={"plain_strings": True}, sequence_length=256,
                             batch_tokens=256, steps=0, stages=stages)
        self.assertIn("none of its 12 rows can be trained on", self.puna("train", recipe, code=3).stderr)

    def test_samples_that_cannot_be(self):
        watch = {"sample_every": 5, "samples": ["the cat"], "sample_tokens": -3}
        self.assertIn("[watch.sample_tokens] is -3", self.puna("train", self.recipe(watch=watch), code=2).stderr)
        watch = {"sample_every": 5, "samples": ["x" * 500]}
        self.assertIn("but a sample has room for 32", self.puna("train", self.recipe(watch=watch), code=2).stderr)
        self.assertFalse(os.path.exists(self.path("run")))

    def test_plan_and_inspect(self):
        plan = json.loads(self.puna("train", self.recipe(), "--plan", "--json").stdout)
        self.assertEqual(sum(plan["parts"].values()), plan["total_bytes"])
        conversation = {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A cat."}]}
        with open(self.path("chat.jsonl"), "w") as file:
            file.write(json.dumps(conversation) + "\n" + '{"messages": []}\n')
        shown = self.puna("train", self.recipe(data=[self.path("chat.jsonl")], objective="sft", sequence_length=64), "--inspect", "1").stdout
        self.assertIn("«A cat.<|eot_id|>»", shown)
        self.assertNotIn("«Who", shown)

    def test_recipes_that_come_with_the_program(self):
        names = [row["name"] for row in json.loads(self.puna("recipe", "list", "--json").stdout)]
        self.assertIn("dpo-8b", names)
        self.puna("recipe", "copy", "dpo-8b", "mine.yaml")
        with open(self.path("mine.yaml")) as file:
            self.assertEqual(file.read(), self.puna("recipe", "show", "dpo-8b").stdout)
        self.assertIn("exists already", self.puna("recipe", "copy", "dpo-8b", "mine.yaml", code=2).stderr)
        self.assertIn("optimizer.learning_rate", self.puna("recipe", "fields").stdout)

    def test_a_teacher_asked_once(self):
        self.puna("train", self.recipe(out=self.path("teacher")))
        held = self.path("held.txt")
        with open(held, "w") as file:
            file.write(sentences(50, 7))
        student = dict(objective="distillation", steps=20, seed=9, validation=[held], out=self.path("student"))
        asked = json.loads(self.puna("distill-data", "teacher/latest", self.recipe(**student), "--out", "taught", "--top-k", "8",
                                     "--json").stdout)
        self.assertEqual(sorted(os.listdir(self.path("taught"))), ["data-0.bin", "validation-0.bin"])
        self.assertEqual(asked["bytes"], sum(os.path.getsize(self.path(name)) for name in asked["data"] + asked["validation"]))
        self.assertLess(asked["rest"], 0.2)
        taught = ["--data", json.dumps(asked["data"]), "--validation", json.dumps(asked["validation"])]
        shown = self.puna("train", "recipe.yaml", *taught, "--inspect", "1").stdout
        self.assertIn("the teacher's 8 likeliest of", shown)
        self.puna("train", "recipe.yaml", *taught)
        self.puna("train", "recipe.yaml", *taught, "--objective", "next_token", "--out", "plain")
        self.assertIn("holds nothing that a teacher says", self.puna("train", "recipe.yaml", "--out", "x", code=2).stderr)
        self.assertIn("is not empty: --force", self.puna("distill-data", "teacher/latest", "recipe.yaml", "--out", "taught", code=2).stderr)
        self.assertIn("holds tokens, not text", self.puna("train-tokenizer", asked["data"][0], "--out", "t.json", code=7).stderr)
        self.assertIn("learns from no teacher", self.puna("distill-data", "teacher/latest", self.recipe(), "--out", "y", code=2).stderr)

    def test_a_teacher_that_is_interrupted_leaves_no_half_file(self):
        self.puna("train", self.recipe(steps=2, out=self.path("teacher")))
        with open(self.path("long.txt"), "w") as file:
            file.write(sentences(400000, 3))
        recipe = self.recipe(objective="distillation", data=[self.path("long.txt")])
        process = subprocess.Popen([PUNA, "distill-data", "teacher/latest", recipe, "--out", "taught"], cwd=self.folder)
        for _ in range(600):
            if glob.glob(self.path("taught/*")):
                break
            time.sleep(0.1)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(), 130)
        self.assertEqual(os.listdir(self.path("taught")), [])

    def test_a_reference_asked_once(self):
        self.puna("train", self.recipe(steps=2, out=self.path("base")))
        with open(self.path("pairs.jsonl"), "w") as file:
            for i in range(40):
                file.write(json.dumps({"prompt": "the", "chosen": " cat sees %d" % i, "rejected": " dog and and %d" % i}) + "\n")
        recipe = self.recipe(objective="dpo", model=self.path("base/latest"), new_model={}, tokenizer="", steps=4,
                             data=[self.path("pairs.jsonl")], reading={"plain_strings": True})
        losses = {}
        for once in ("false", "true"):
            lines = self.puna("train", recipe, "--dpo.precompute_reference", once, "--out", once, "--json").stdout.splitlines()
            events = [json.loads(line) for line in lines]
            losses[once] = [event["loss"] for event in events if event["event"] == "step"]
            self.assertEqual([event["rows"] for event in events if event["event"] == "reference"], [40] if once == "true" else [])
        for each_step, once in zip(losses["false"], losses["true"]):
            self.assertAlmostEqual(each_step, once, 5)
        plan = lambda once: json.loads(self.puna("train", recipe, "--plan", "--json", "--dpo.precompute_reference", once).stdout)
        self.assertIn("reference", plan("false")["parts"])
        self.assertNotIn("reference", plan("true")["parts"])
        self.assertGreater(plan("true")["before_bytes"], 0)
        self.assertIn("reference.bin", os.listdir(self.path("true")))

    def test_average(self):
        self.puna("train", self.recipe(steps=2, out=self.path("a")))
        self.puna("train", self.recipe(steps=2, seed=2, out=self.path("b")))
        self.puna("average", "c", "a/latest", "b/latest=0", "--type", "f32")
        tokens = self.path("ids.json")
        with open(tokens, "w") as file:
            json.dump([256, 100, 101, 102], file)
        score = lambda model: json.loads(self.puna("score", model, "--tokens", tokens, "--json").stdout)["logprobs"]
        self.assertEqual(score("c"), score("a/latest"))
        self.puna("average", "half", "a/latest", "b/latest", "--type", "f32")
        os.rename(self.path("b"), self.path("b=0.5"))  # the name of a folder, no share
        self.puna("average", "named", "a/latest", "b=0.5/latest", "--type", "f32")
        self.puna("average", "both", "a/latest", "b=0.5/latest=0", "--type", "f32")
        self.assertEqual(score("named"), score("half"))
        self.assertEqual(score("both"), score("a/latest"))
        self.assertIn("expected two or more", self.puna("average", "d", "a/latest", code=2).stderr)

    @needs_stories
    def test_adapters_over_a_gguf_file_merged_are_the_same_model(self):
        self.puna("quantize", STORIES_GGUF, self.path("q8.gguf"), "--type", "q8_0")
        for base in (STORIES_GGUF, self.path("q8.gguf")):
            out = self.path(os.path.basename(base) + "-run")
            recipe = self.recipe(model=base, new_model={}, tokenizer="", data=[self.corpus], lora={"rank": 4}, out=out, steps=10)
            self.puna("train", recipe)
            merged = self.path(os.path.basename(base) + "-merged.gguf")
            self.puna("merge", base, out + "/latest", merged, "--type", "f32")
            text = self.puna("run", merged, "--raw", "-p", "the", "-n", "30", "--temp", "0").stdout
            self.assertRegex(text, r"(cat|dog|bird)")  # it has learned the corpus
            beside = self.puna("run", base, "--adapter", out + "/latest", "--raw", "-p", "the", "-n", "30", "--temp", "0").stdout
            self.assertRegex(beside, r"(cat|dog|bird)")
            if base == STORIES_GGUF:  # the other one rounds activations where the merged one, in F32, does not
                self.assertEqual(beside, text)
        small = self.make_small_model()
        self.assertIn("made for another model", self.puna("run", small, "--adapter", out + "/latest", "-p", "x", "--raw", code=3).stderr)
        self.assertIn("made for another model", self.puna("merge", small, out + "/latest", "x", code=3).stderr)

    def make_small_model(self):
        self.puna("train", self.recipe(steps=1, out=self.path("small")))
        return self.path("small/latest")


    def test_a_reward_model_scores_what_it_was_taught(self):
        pick = random.Random(3).choice
        with open(self.path("pairs.jsonl"), "w") as file:
            for _ in range(200):
                who = pick(["the cat", "the dog", "a bird"])
                file.write(json.dumps({"prompt": "%s sees" % who, "chosen": "the sun", "rejected": "a tree"}) + "\n")
        shape = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "feed_forward": 64, "context": 256}
        reward = {"objective": "reward", "data": [self.path("pairs.jsonl")], "sequence_length": 256, "batch_tokens": 1024,
                  "step_tokens": 1024, "steps": 12}
        self.puna("train", self.recipe(out=self.path("run-full"), new_model=shape, **reward))
        self.puna("train", self.recipe(out=self.path("run-adapters"), model=self.path("run-full/latest"), tokenizer="", new_model={},
                                       lora={"rank": 4}, **reward))
        self.puna("merge", self.path("run-full/latest"), self.path("run-adapters/latest"), self.path("merged"))
        with open(os.path.join(self.path("run-full/latest"), "config.json")) as file:
            self.assertEqual(json.load(file)["architectures"], ["LlamaForSequenceClassification"])
        for model in ("run-full/latest", "merged"):
            result = self.puna("reward", self.path(model), self.path("pairs.jsonl"))
            rows = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertEqual([row["id"] for row in rows], list(range(1, 201)))
            self.assertTrue(all(row["rewards"][0] > row["rewards"][1] for row in rows), model)
            self.assertIn("200 pairs; the better answer has the higher reward in 100.0 %", result.stderr)
        one = json.dumps({"id": "x", "messages": [{"role": "user", "content": "the cat sees"}, {"role": "assistant", "content": "the sun"}]})
        scored = json.loads(self.puna("reward", self.path("merged"), "-", input=one).stdout)
        self.assertEqual(scored["id"], "x")
        best = [row["rewards"][0] for row in rows]
        self.assertTrue(min(abs(scored["reward"] - value) for value in best) < 1e-4, "a conversation is scored as the same answer to its prompt")
        self.puna("convert", self.path("merged"), self.path("merged.gguf"))
        self.assertIn("is no reward model", self.puna("reward", self.path("merged.gguf"), self.path("pairs.jsonl"), code=7).stderr)

if __name__ == "__main__":
    unittest.main()
