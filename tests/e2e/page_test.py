# SPDX-License-Identifier: Apache-2.0
"""The page as `puna serve` gives it, used by a person in Chromium: the browser tests of web/. Skipped where npm has not fetched what
they are made with, or no Chromium is there."""

import os
import shutil
import subprocess
import tempfile
import unittest

from running_server import RunningServer

WEB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "web")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
METRICS = '{"step":%d,"kind":"train","loss":%g,"gradient_norm":0.5,"learning_rate":0.001,"tokens":%d,"tokens_per_second":1000}\n'


class PageTest(unittest.TestCase):
    def setUp(self):
        if not shutil.which("npm") or not os.path.isdir(os.path.join(WEB, "node_modules")):
            self.skipTest("web/node_modules is not there: npm ci in web/ fetches it")

    def npm(self, *words, **env):
        result = subprocess.run(["npm", "run", "--silent", *words], cwd=WEB, env={**os.environ, **env}, capture_output=True, text=True,
                                timeout=900)
        self.assertEqual(result.returncode, 0, result.stdout[-6000:] + result.stderr[-2000:])

    def test_its_parts(self):
        self.npm("check")
        self.npm("test")

    def test_all_of_it_in_a_browser(self):
        if not CHROMIUM:
            self.skipTest("there is no Chromium: scripts/packages.txt names its package")
        with tempfile.TemporaryDirectory() as folder:
            for name in ("first", "second"):
                os.makedirs(os.path.join(folder, "runs", name))
                with open(os.path.join(folder, "runs", name, "metrics.jsonl"), "w") as file:
                    file.writelines(METRICS % (step, 4 / step, step * 100) for step in range(1, 40))
                with open(os.path.join(folder, "runs", name, "recipe.yaml"), "w") as file:
                    file.write("objective: sft\nsteps: 39\nout: runs/%s\n" % name)
            with RunningServer("nano", "second=nano", "--runs", os.path.join(folder, "runs"), "--votes",
                               os.path.join(folder, "votes.jsonl")) as server:
                self.npm("test:browser", PAGE_URL=server.url, CHROMIUM=CHROMIUM)


if __name__ == "__main__":
    unittest.main()
