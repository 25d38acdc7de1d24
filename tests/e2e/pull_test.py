# SPDX-License-Identifier: Apache-2.0
"""puna pull, list and rm against a stand-in hub: PUNA is the program's path."""

import fcntl
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest

import fake_hub
from fake_hub import COMMIT

PUNA = os.environ["PUNA"]
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
GGUF = b"GGUF\x03\0\0\0" + b"\xff" * 16 + os.urandom(200_000)  # counts that no file holds


def repositories():
    return {
        "org/model": fake_hub.Repository({
            "README.md": b"# model\n",
            "config.json": b'{"model_type": "llama"}',
            "tokenizer.json": b"{}" * 3000,
            "model.safetensors": WEIGHTS,
            "pytorch_model.bin": b"x" * 100,
            "pytorch_model.bin.index.json": b"{}",
            "original/consolidated.00.pth": b"y" * 100,
        }),
        "org/gguf": fake_hub.Repository({
            "README.md": b"", "m-Q4_K_M.gguf": GGUF, "m-Q8_0.gguf": GGUF[:1000],
            "big/m-F16-00001-of-00002.gguf": GGUF[:500], "big/m-F16-00002-of-00002.gguf": GGUF[:501]}),
        "org/gated": fake_hub.Repository({"config.json": b"{}", "model.safetensors": WEIGHTS[:1000]}, gated=True),
        "org/evil": fake_hub.Repository({"config.json": b"{}", "../../../evil.safetensors": b"x"}),
        "org/controls": fake_hub.Repository({"config.json": b"{}", "a\x9b31m.safetensors": b"x"}),
        "org/old": fake_hub.Repository({"config.json": b"{}", "pytorch_model.bin": b"x"}),
        "org/empty": fake_hub.Repository({"empty.json": b"", "model.safetensors": b""}),
    }


class NoSizes(fake_hub.HubHandler):
    """A hub that does not say how large a file is."""

    def send_header(self, name, value):
        if name != "X-Linked-Size":
            super().send_header(name, value)


class PullTest(unittest.TestCase):
    def setUp(self):
        self.hub = fake_hub.Hub(repositories())
        self.addCleanup(self.hub.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        self.cache = os.path.join(self.home, "hub")

    def environment(self, **extra):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        return {**clean, "HF_HOME": self.home, "HF_ENDPOINT": self.hub.endpoint, **extra}

    def puna(self, *arguments, **extra):
        return subprocess.run([PUNA, *arguments], env=self.environment(**extra), capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)

    def model_folder(self, name):
        return os.path.join(self.cache, "models--" + name.replace("/", "--"))

    def snapshot(self, name, path):
        return os.path.join(self.model_folder(name), "snapshots", COMMIT, path)

    def assert_fails(self, result, code, *parts):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_takes_safetensors_and_what_belongs_to_them(self):
        result = self.puna("pull", "org/model")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], os.path.join(self.model_folder("org/model"), "snapshots", COMMIT))
        self.assertEqual(sorted(os.listdir(result.stdout.strip())), ["config.json", "model.safetensors", "tokenizer.json"])
        weights = self.snapshot("org/model", "model.safetensors")
        repository = self.hub.repositories["org/model"]
        self.assertEqual(os.readlink(weights), "../../blobs/" + repository.etag("model.safetensors"))
        for path in ("model.safetensors", "tokenizer.json"):
            with open(self.snapshot("org/model", path), "rb") as file:
                self.assertEqual(file.read(), repository.files[path])
        with open(os.path.join(self.model_folder("org/model"), "refs", "main")) as file:
            self.assertEqual(file.read(), COMMIT)

    def test_second_pull_downloads_nothing(self):
        self.puna("pull", "org/model")
        before = len(self.hub.seen("cdn"))
        result = self.puna("pull", "org/model", "--json")
        answer = json.loads(result.stdout)
        self.assertEqual(answer["downloaded_bytes"], 0)
        self.assertEqual(answer["commit"], COMMIT)
        self.assertEqual(len(self.hub.seen("cdn")), before)

    def test_a_dropped_connection_is_continued(self):
        self.hub.faults.drop_after["model.safetensors"] = [300_000, 100_000]
        result = self.puna("pull", "org/model")
        self.assertEqual(result.returncode, 0, result.stderr)
        ranges = [request[3].get("Range") for request in self.hub.seen("cdn")]
        self.assertEqual(len(ranges), 3)
        self.assertIsNone(ranges[0])
        self.assertTrue(all(value and value.startswith("bytes=") for value in ranges[1:]), ranges)
        with open(self.snapshot("org/model", "model.safetensors"), "rb") as file:
            self.assertEqual(file.read(), WEIGHTS)

    def test_a_new_run_goes_on_where_the_last_one_ended(self):
        self.hub.faults.drop_after["model.safetensors"] = [400_000, 0, 0, 0, 0, 0]
        self.assert_fails(self.puna("pull", "org/model"), 6, "run puna pull again, it goes on from there")
        self.assertFalse(os.path.exists(os.path.join(self.model_folder("org/model"), "refs", "main")))
        self.hub.faults.drop_after.clear()
        answer = json.loads(self.puna("pull", "org/model", "--json").stdout)
        start = int(self.hub.seen("cdn")[-1][3]["Range"][len("bytes="):-1])
        self.assertGreater(start, 0)
        self.assertLessEqual(start, 400_000)
        self.assertEqual(answer["downloaded_bytes"], len(WEIGHTS) - start)

    def test_a_server_without_ranges_starts_from_nothing(self):
        self.hub.faults.drop_after["model.safetensors"] = [300_000]
        self.hub.faults.ignore_range.add("model.safetensors")
        self.assertEqual(self.puna("pull", "org/model").returncode, 0)
        with open(self.snapshot("org/model", "model.safetensors"), "rb") as file:
            self.assertEqual(file.read(), WEIGHTS)

    def test_all_the_bytes_of_a_file_of_unknown_size_are_there(self):
        self.hub.server.RequestHandlerClass = NoSizes
        etag = self.hub.repositories["org/model"].etag("model.safetensors")
        blobs = os.path.join(self.model_folder("org/model"), "blobs")
        os.makedirs(blobs)
        for left, requests in ((WEIGHTS, 1), (WEIGHTS + b"more", 2)):
            with self.subTest(len(left)):
                with open(os.path.join(blobs, etag + ".incomplete"), "wb") as file:
                    file.write(left)
                before = len(self.hub.seen("cdn"))
                result = self.puna("pull", "org/model")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(len(self.hub.seen("cdn")) - before, requests)
                with open(self.snapshot("org/model", "model.safetensors"), "rb") as file:
                    self.assertEqual(file.read(), WEIGHTS)
                os.remove(os.path.join(blobs, etag))

    def test_as_many_bytes_of_unknown_size_are_checked(self):
        self.hub.server.RequestHandlerClass = NoSizes
        etag = self.hub.repositories["org/model"].etag("model.safetensors")
        blobs = os.path.join(self.model_folder("org/model"), "blobs")
        os.makedirs(blobs)
        with open(os.path.join(blobs, etag + ".incomplete"), "wb") as file:
            file.write(b"x" * len(WEIGHTS))
        self.assert_fails(self.puna("pull", "org/model"), 3, "the SHA-256 of what came is", "run puna pull again")
        self.assertEqual(self.puna("pull", "org/model").returncode, 0)

    def test_wrong_bytes_are_refused_and_removed(self):
        for path, kind in (("tokenizer.json", "git SHA-1"), ("model.safetensors", "SHA-256")):
            with self.subTest(path):
                self.hub.faults.corrupt = {path}
                self.assert_fails(self.puna("pull", "org/model"), 3, "[%s]" % path, "the %s of what came is" % kind,
                                  self.hub.repositories["org/model"].etag(path), "run puna pull again")
                blobs = os.listdir(os.path.join(self.model_folder("org/model"), "blobs"))
                self.assertNotIn(self.hub.repositories["org/model"].etag(path), [name.split(".")[0] for name in blobs])
                self.assertFalse(os.path.lexists(self.snapshot("org/model", path)))

    def test_the_token_goes_to_the_hub_and_nowhere_else(self):
        result = self.puna("pull", "org/gated", HF_TOKEN="hf_secret")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(all(r[3].get("Authorization") == "Bearer hf_secret" for r in self.hub.seen("hub")))
        self.assertTrue(self.hub.seen("cdn"))
        self.assertFalse([r for r in self.hub.seen("cdn") if "Authorization" in r[3]])

    def test_the_token_file_is_read(self):
        with open(os.path.join(self.home, "token"), "w") as file:
            file.write("hf_secret\n")
        self.assertEqual(self.puna("pull", "org/gated").returncode, 0)

    def test_gated_and_absent_repositories_say_what_to_do(self):
        self.assert_fails(self.puna("pull", "org/gated"), 6, "the model is gated", "accept its licence", "set HF_TOKEN", "no token was sent")
        self.assert_fails(self.puna("pull", "org/gated", HF_TOKEN="wrong"), 6, "403", "the token in HF_TOKEN was sent")
        self.assert_fails(self.puna("pull", "org/nothing"), 6, "401", "check the name", "HF_TOKEN")
        self.assert_fails(self.puna("pull", "org/nothing", HF_TOKEN="hf_secret"), 4, "404", "check the name")
        self.assert_fails(self.puna("pull", "org/model:v9"), 4, "there is no such revision")

    def test_a_revision_with_slashes(self):
        self.assertEqual(self.puna("pull", "org/model:refs/pr/1").returncode, 0)
        self.assertTrue(os.path.exists(os.path.join(self.model_folder("org/model"), "refs", "refs", "pr", "1")))

    def test_gguf_repositories_ask_which(self):
        self.assert_fails(self.puna("pull", "org/gguf"), 2, "3 GGUF models", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "org/gguf:Q4_K_M")
        self.assert_fails(self.puna("pull", "org/gguf:Q5_K_M"), 4, "no GGUF file is named Q5_K_M")
        result = self.puna("pull", "org/gguf:q4_k_m")
        self.assertEqual(result.stdout.strip(), self.snapshot("org/gguf", "m-Q4_K_M.gguf"))
        result = self.puna("pull", "org/gguf:F16")
        self.assertTrue(os.path.exists(self.snapshot("org/gguf", "big/m-F16-00002-of-00002.gguf")))
        self.assertEqual(os.readlink(result.stdout.strip()),
                         "../../../blobs/" + self.hub.repositories["org/gguf"].etag("big/m-F16-00001-of-00002.gguf"))

    def test_include(self):
        result = self.puna("pull", "org/model", "--include", "*.md", "--include", "original/*")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(os.path.exists(self.snapshot("org/model", "README.md")))
        self.assertTrue(os.path.exists(self.snapshot("org/model", "original/consolidated.00.pth")))
        self.assert_fails(self.puna("pull", "org/model", "--include", "*.zip"), 4, "no file matches --include", "config.json")

    def test_names_that_lead_out_are_refused(self):
        self.assert_fails(self.puna("pull", "org/evil"), 6, "leads out of the repository")
        self.assertFalse(os.path.exists(os.path.join(self.home, "evil.safetensors")))
        self.assert_fails(self.puna("pull", "org/controls"), 6, "holds control characters", "a\ufffd31m.safetensors")
        for name in ("../model", "org/..", "model", "org/model:../x", "https://example.org/x"):
            self.assert_fails(self.puna("pull", name), 2, "no name on the hub")

    def test_only_bin_files(self):
        self.assert_fails(self.puna("pull", "org/old"), 7, "no safetensors", "pytorch_model.bin")

    def test_empty_files(self):
        self.assertEqual(self.puna("pull", "org/empty").returncode, 0)
        self.assertEqual(os.path.getsize(self.snapshot("org/empty", "empty.json")), 0)

    def test_passing_failures_are_tried_again(self):
        self.hub.faults.errors = {"api": [503, 429], "model.safetensors": [500]}
        result = self.puna("pull", "org/model")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(self.hub.seen("hub", part="/api/")), 3)

    def test_no_network(self):
        self.assert_fails(self.puna("pull", "org/model", HF_HUB_OFFLINE="1"), 2, "HF_HUB_OFFLINE")
        self.assertEqual(self.hub.requests, [])
        self.assert_fails(self.puna("pull", "org/model", HF_ENDPOINT="ftp://x"), 2, "check HF_ENDPOINT")

    def test_two_pulls_at_once_share_the_work(self):
        runs = []
        threads = [threading.Thread(target=lambda: runs.append(self.puna("pull", "org/model"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([run.returncode for run in runs], [0, 0, 0], [run.stderr for run in runs])
        self.assertEqual(len(self.hub.seen("cdn")), 1)

    def test_waits_for_the_lock_of_another_program(self):
        etag = self.hub.repositories["org/model"].etag("model.safetensors")
        locks = os.path.join(self.cache, ".locks", "models--org--model")
        os.makedirs(locks)
        with open(os.path.join(locks, etag + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run = subprocess.Popen([PUNA, "pull", "org/model"], env=self.environment(), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
            said = ""
            while "another program is downloading model.safetensors" not in said:
                line = run.stderr.readline()
                self.assertTrue(line, "it has ended and said: " + said)
                said += line
            time.sleep(0.2)
            self.assertIsNone(run.poll())
            self.assertEqual(self.hub.seen("cdn"), [])
        run.communicate(timeout=30)
        self.assertEqual(run.returncode, 0)

    def test_list_and_rm(self):
        inside = json.loads(self.puna("list", "--json").stdout)["models"]
        self.assertEqual([(model["name"], model["path"]) for model in inside], [("nano", "builtin:nano")])
        self.puna("pull", "org/model")
        self.puna("pull", "org/gguf:Q8_0")
        models = json.loads(self.puna("list", "--json").stdout)["models"][1:]
        self.assertEqual([(m["name"], m["kind"], m["revisions"]) for m in models],
                         [("org/gguf", "gguf", ["main"]), ("org/model", "safetensors", ["main"])])
        self.assertEqual(models[0]["bytes"], 1000)
        self.assertEqual(self.puna("list", "-q").stdout, "nano\norg/gguf\norg/model\n")
        self.assert_fails(self.puna("rm", "model"), 2, "--yes")
        self.assert_fails(self.puna("rm", "mdoel", "--yes"), 4, "did you mean model?")
        self.assertEqual(self.puna("rm", "model", "--yes").returncode, 0)
        self.assertFalse(os.path.exists(self.model_folder("org/model")))
        self.assertEqual(self.puna("list", "--names").stdout, "nano\norg/gguf\n")
        self.assert_fails(self.puna("rm", "nano", "--yes"), 2, "inside the program")

    def test_a_name_in_the_cache_is_a_model(self):
        self.puna("pull", "org/gguf:Q8_0")
        for name in ("org/gguf", "gguf", "org/gguf:q8_0", "org/gguf:main", "org/gguf:" + COMMIT):
            result = self.puna("show", name)  # found and opened: what is wrong is its bytes
            self.assertEqual(result.returncode, 3, name + result.stderr)
            self.assertIn("m-Q8_0.gguf", result.stderr)
        self.assert_fails(self.puna("show", "org/gguf:Q4_K_M"), 4, "run puna pull org/gguf:Q4_K_M")
        self.puna("pull", "org/gguf:Q4_K_M")
        self.assert_fails(self.puna("show", "org/gguf"), 2, "2 GGUF files", "m-Q4_K_M.gguf")
        self.assert_fails(self.puna("show", "org/ggfu"), 4, "did you mean org/gguf?", "run puna pull org/ggfu")


if __name__ == "__main__":
    unittest.main()
