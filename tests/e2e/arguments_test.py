# SPDX-License-Identifier: Apache-2.0
"""Flags and words that would change nothing, or contradict each other, are refused; those that are promised work. PUNA is the
program's path."""

import json
import unittest

from cli_test import TINY, CliTest

TEXT = "The capital of Japan is Tokyo. "


class ArgumentsTest(CliTest):
    def test_tokenize_takes_ids_or_a_text(self):
        ids = self.path("ids.json", "[1, 2]")
        for more in (["text"], [""], ["--file", self.path("text.txt", "text")]):
            self.assert_fails(2, "tokenize", "nano", *more, "--decode", ids, says="[--decode] turns ids into text, and a text was given too")
        self.assert_fails(2, "tokenize", "nano", "--decode", ids, "--bos", says="[--bos] puts a token in front of a text")
        for more in ([], ["--special"], ["--json"]):
            self.output("tokenize", "nano", "--decode", ids, *more)

    def test_recipe_takes_what_its_action_needs(self):
        self.assert_fails(2, "recipe", "show", "dpo-8b", "extra", says="unexpected argument 'extra' behind show")
        self.assert_fails(2, "recipe", "list", "x", says="unexpected argument 'x' behind list")
        self.assert_fails(2, "recipe", "fields", "x", says="unexpected argument 'x' behind fields")
        self.assert_fails(2, "recipe", "show", "dpo-8b", "--json", says="[--json] is for list and fields")
        self.assert_fails(2, "recipe", "lst", says="did you mean list?")
        self.json("recipe", "fields", "--json")

    def test_show_plans_gpus_only_where_it_is_asked(self):
        self.assert_fails(2, "show", "nano", "--type", "q8_0", says="[--type] is for --shape")
        self.assert_fails(2, "show", "nano", "--gpus", "1,2", "--type", "q8_0", says="[--type] is for --shape")
        self.assert_fails(2, "show", "nano", "--pipeline", "2", says="[--pipeline] is for --gpus")
        self.assert_fails(2, "show", "nano", "--gpu-memory", "80GB", says="[--gpu-memory] is for --gpus")
        self.assert_fails(2, "show", "nano", "--tensors", "--gpus", "1", says="[--tensors] is for a MODEL without --gpus")
        self.output("show", "nano", "--gpus", "1,2", "--gpu-memory", "80GB", "--pipeline", "1")
        self.output("show", "--shape", "8b", "--type", "q8_0", "--gpu-memory", "24GB", "--pipeline", "2")

    def test_bench_measures_a_model_as_it_is(self):
        self.assert_fails(2, "bench", "nano", "--type", "q8_0", says="[--type] is for --shape")

    def test_bench_decodes_more_sequences_than_positions_or_rows_of_a_prompt(self):
        for batch in (6, 600):
            measured = self.json("bench", TINY, "-r", "1", "-b", str(batch), "-p", "0", "-n", "4", "--json")
            self.assertEqual(measured["batch"], batch)
            self.assertGreater(measured["decode_tps"], 0)

    def test_help_says_the_verbs_own_defaults(self):
        said = {verb: " ".join(self.output("help", verb).split()) for verb in ("run", "batch", "serve")}
        for verb, temperature in (("run", "0.6"), ("batch", "0"), ("serve", "0.6")):
            self.assertIn("temperature; 0 takes the likeliest token (default %s)" % temperature, said[verb])
            self.assertIn("1: off (default 0.9)", said[verb])
            self.assertIn("the same seed gives the same tokens (default: drawn)", said[verb])

    def test_a_text_beyond_the_models_context(self):
        text = self.path("text.txt", TEXT * 400)
        ids = self.json("tokenize", "nano", "--file", text, "--bos", "--json")
        count = len(ids["tokens"])
        self.assertGreater(count, 1024)
        says = ["[context] %d tokens are to be scored at once, the model allows 1024: shorten the text" % count]
        self.assert_fails(5, "score", "nano", "--file", text, says=says)
        self.assert_fails(5, "score", "nano", "--tokens", "-", stdin=json.dumps(ids), says=says)
        self.assert_fails(5, "score", "nano", "--file", text, "-c", "512", says=says)
        self.assert_fails(5, "score", "nano", "--text", TEXT, "-c", "2", says="give --context")
        self.json("perplexity", "nano", "--file", text, "--window", "64", "--windows", "1", "--json")
        self.assert_fails(2, "perplexity", "nano", "--file", text, "--window", "2048",
                          says="[--window] 2048 tokens are more than the 1024 that nano was made for: give --window 1024 or less")


if __name__ == "__main__":
    unittest.main()
