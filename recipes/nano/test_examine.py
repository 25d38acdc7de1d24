#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of nano's examination with a program of batch's kind that knows all answers, of the paired comparison, of what is
told to the reward model, of pairs from mistakes, and of the order of stages in make.py."""
import json
import os
import stat
import sys
import tempfile
import unittest
from pathlib import Path

import examine
import generate
import judge
import make
import mistakes
import score
from stream import is_held_out

# Answers by the question: the first time with the call, behind a tool's result with what is expected. Its "model" is the file of rows.
FAKE = '''#!%s
import json, sys
rows = {row["id"]: row for row in map(json.loads, open(sys.argv[2]))}
with open(sys.argv[4], "w") as out:
    for request in map(json.loads, open(sys.argv[3])):
        expect, last = rows[request["id"]]["expect"], request["messages"][-1]
        text = (expect.get("refusal") or expect["contains"])[0]
        if "call" in expect and last["role"] != "tool":
            text = json.dumps({"name": expect["call"]["name"], "parameters": expect["call"]["arguments"]})
        if last["role"] == "tool" and last["content"] != expect["result"]:
            text = "the tool said something else"
        answer = {"message": {}, "raw": text + "<|eot_id|>"} if request["id"] != "bad" else {"error": {"message": "no"}}
        out.write(json.dumps({"id": request["id"], **answer}) + "\\n")
'''


class Examination(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.rows = list(generate.evaluation_rows(1, 1))
        self.model = self.folder / "rows.jsonl"
        self.model.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        self.puna = self.folder / "puna"
        self.puna.write_text(FAKE % sys.executable, encoding="utf-8")
        os.chmod(self.puna, os.stat(self.puna).st_mode | stat.S_IXUSR)

    def test_who_knows_everything_passes(self):
        answers = examine.examine(self.puna, self.model, self.rows)
        result = score.report(self.rows, {answer["id"]: answer for answer in answers})
        self.assertEqual(result["failures"], {})
        self.assertEqual(result["scores"][0]["total"], len(self.rows))

    def test_second_turn_holds_call_and_result(self):
        row = next(row for row in self.rows if row["category"] == "arithmetic")
        call = {"name": "calculator", "parameters": {"expression": "6 * 7"}}
        (request,) = examine.second_requests([row], {row["id"]: {"raw": json.dumps(call) + "<|eot_id|>"}})
        self.assertEqual([message["role"] for message in request["messages"]], ["user", "assistant", "tool"])
        self.assertEqual(request["messages"][1]["tool_calls"][0]["function"], {"name": "calculator", "arguments": '{"expression": "6 * 7"}'})
        self.assertEqual(request["messages"][2], {"role": "tool", "tool_call_id": "call_0", "content": "42"})
        self.assertEqual(request["tools"], row["tools"])

    def test_only_calls_lead_to_a_second_turn(self):
        row = next(row for row in self.rows if row["category"] == "arithmetic")
        self.assertEqual(list(examine.second_requests([row], {row["id"]: {"raw": "It is 42.<|eot_id|>"}})), [])
        self.assertEqual(list(examine.second_requests([row], {})), [])
        self.assertEqual(examine.ask(self.puna, self.model, [], self.folder, "none"), {})

    def test_errors_are_no_answers(self):
        bad = {**self.rows[0], "id": "bad"}
        self.model.write_text(json.dumps(bad) + "\n", encoding="utf-8")
        self.assertEqual(examine.examine(self.puna, self.model, [bad]), [])


class Comparison(unittest.TestCase):
    def test_paired(self):
        difference, low, high, p = examine.paired(8, 2, 100)
        self.assertAlmostEqual(difference, 0.06)
        self.assertAlmostEqual(p, 2 * (1 + 10 + 45) / 1024)  # 2 or fewer of 10 coins
        # (8.5 - 2.5) / 102, +- 1.959964 sqrt(11 - 36 / 102) / 102
        self.assertAlmostEqual(low, 0.0588235 - 0.0627028, places=5)
        self.assertAlmostEqual(high, 0.0588235 + 0.0627028, places=5)

    def test_no_change_is_no_evidence(self):
        difference, low, high, p = examine.paired(0, 0, 50)
        self.assertEqual((difference, p), (0, 1))
        self.assertLess(low, 0)
        self.assertAlmostEqual(low, -high)
        self.assertEqual(examine.paired(0, 0, 0), (0.0, -1.0, 1.0, 1.0))

    def test_groups(self):
        rows = [row for row in generate.evaluation_rows(1, 1) if row["category"] == "talk"]
        right = {row["id"]: {"turn1": row["expect"]["contains"][0], "turn2": None} for row in rows}
        wrong = {row["id"]: {"turn1": "?", "turn2": None} for row in rows if row["language"] != "th"}
        found = {(row["language"], row["category"]): row for row in examine.compare(rows, wrong, right)}
        self.assertEqual((found["all", "all"]["gained"], found["all", "all"]["lost"]), (len(rows), 0))
        self.assertEqual(found["th", "all"]["gained"], 1)
        self.assertEqual(set(key[1] for key in found), {"all", "talk"})
        self.assertEqual(examine.compare(rows, right, wrong)[0]["lost"], len(rows))


    def test_table(self):
        rows = [row for row in generate.evaluation_rows(1, 1) if row["language"] in ("en", "th") and row["category"] == "talk"]
        right = {row["id"]: {"turn1": row["expect"]["contains"][0], "turn2": None} for row in rows if row["language"] == "th"}
        self.assertEqual(examine.table(rows, {"a": {}, "b": right}).split("\n"), [
            "| | a | b |", "|---|---|---|",
            "| all | 0.0% (0.0% to 65.8%) | 50.0% (9.5% to 90.5%) |",  # Wilson of n: the bound of none is 3.8415 / (n + 3.8415)
            "| en | 0.0% (0.0% to 79.3%) | 0.0% (0.0% to 79.3%) |", "| th | 0.0% (0.0% to 79.3%) | 100.0% (20.7% to 100.0%) |",
            "| talk | 0.0% (0.0% to 65.8%) | 50.0% (9.5% to 90.5%) |"])


class Judge(unittest.TestCase):
    def test_wins_losses_and_the_paired_interval(self):
        before, after = {"a": 1.0, "b": 2.0, "c": 0.0, "d": 5.0, "x": 9.0}, {"a": 2.0, "b": 4.0, "c": 3.0, "d": 5.0}
        found = judge.preference(before, after)  # the differences are 1, 2, 3, 0
        self.assertEqual((found["questions"], found["wins"], found["losses"], found["ties"]), (4, 3, 0, 1))
        self.assertEqual((found["before"], found["after"], found["difference"]), (2.0, 3.5, 1.5))
        # 1.959964 sqrt(5 / 3 / 4), 5 the sum of squares around the mean
        self.assertAlmostEqual(found["difference_high"] - 1.5, 1.265156, places=5)
        self.assertEqual(found["win_rate"], 1.0)
        self.assertAlmostEqual(found["win_low"], 0.43850, places=4)  # Wilson's bound of 3 of 3: 3 / (3 + 1.959964²)

    def test_calls_are_judged_as_calls_and_text_as_text(self):
        row = next(row for row in generate.evaluation_rows(1, 1) if row["category"] == "units")
        raw = json.dumps({"name": "convert_units", "parameters": row["expect"]["call"]["arguments"]}) + "<|eot_id|>"
        said = judge.conversation(row, {"turn1": raw})
        self.assertEqual(said["tools"], row["tools"])
        call = said["messages"][-1]["tool_calls"][0]["function"]
        self.assertEqual((call["name"], json.loads(call["arguments"])), ("convert_units", row["expect"]["call"]["arguments"]))
        self.assertEqual(judge.conversation(row, {"turn1": "No.<|eot_id|>"})["messages"][-1], {"role": "assistant", "content": "No."})


class Mistakes(unittest.TestCase):
    def find(self, category):
        return next((question, row) for question, row in mistakes.asked(1, 200) if row["category"] == category)

    def test_questions_are_of_the_training_split(self):
        asked = list(mistakes.asked(1, 300))
        self.assertEqual(len({row["category"] for _, row in asked}), 11)
        for question, row in asked:
            if row["category"] in ("talk", "facts", "refusal", "harmless", "needless_tools"):
                self.assertFalse(is_held_out(question.user), question.user)

    def test_right_answers_make_no_pair(self):
        for question, row in mistakes.asked(1, 100):
            first = mistakes.right_answer(question, row)
            call = first.get("tool_calls")
            raw = first["content"] if not call else json.dumps({"name": question.call["name"], "parameters": question.call["arguments"]})
            self.assertIsNone(mistakes.pair(question, row, {"turn1": raw, "turn2": question.answer if call else None}), row)

    def test_a_wrong_text(self):
        question, row = self.find("talk")
        pair = mistakes.pair(question, row, {"turn1": "Nonsense.<|eot_id|>", "turn2": None})
        self.assertEqual(pair["chosen"], [{"role": "assistant", "content": question.answer}])
        self.assertEqual(pair["rejected"], [{"role": "assistant", "content": "Nonsense."}])
        self.assertNotIn("tools", pair)
        self.assertIsNone(mistakes.pair(question, row, {"turn1": "<|eot_id|>", "turn2": None}))  # nothing to learn from

    def test_days_counted_the_wrong_way_come_in_both_ways(self):
        question, row = next((question, row) for question, row in mistakes.asked(1, 400)
                             if question.call and question.call["arguments"].get("days", 0) > 0 and row["tools"])
        arguments = question.call["arguments"]
        raw = json.dumps({"name": "date_math", "parameters": {**arguments, "days": -arguments["days"]}})
        pair = mistakes.pair(question, row, {"turn1": raw, "turn2": None})
        first, second = mistakes.with_mirrored(1, [(row["language"], pair)])
        self.assertEqual(first, pair)
        self.assertEqual((mistakes.days(first["chosen"]), mistakes.days(first["rejected"])), (arguments["days"], -arguments["days"]))
        self.assertLess(mistakes.days(second["chosen"]), 0)
        self.assertEqual(mistakes.days(second["rejected"]), -mistakes.days(second["chosen"]))
        self.assertEqual(first.keys(), second.keys())
        raw = json.dumps({"name": "date_math", "parameters": {**arguments, "days": arguments["days"] + 1}})
        pair = mistakes.pair(question, row, {"turn1": raw, "turn2": None})
        self.assertEqual(list(mistakes.with_mirrored(1, [(row["language"], pair)])), [pair])

    def test_a_wrong_call_and_a_wrong_second_turn(self):
        question, row = self.find("arithmetic")
        wrong = json.dumps({"name": "calculator", "parameters": {"expression": "1 + 1"}}) + "<|eom_id|>"
        pair = mistakes.pair(question, row, {"turn1": wrong, "turn2": "It is 2."})
        self.assertEqual((pair["prompt"], pair["tools"]), (row["messages"], row["tools"]))
        expected = [json.dumps(question.call["arguments"], ensure_ascii=False), '{"expression": "1 + 1"}']
        self.assertEqual([pair[side][0]["tool_calls"][0]["function"]["arguments"] for side in ("chosen", "rejected")], expected)
        right = json.dumps({"name": "calculator", "parameters": question.call["arguments"]})
        pair = mistakes.pair(question, row, {"turn1": right, "turn2": "What?"})
        self.assertEqual([message["role"] for message in pair["prompt"]], ["user", "assistant", "tool"])
        self.assertEqual(pair["prompt"][2]["content"], question.result)
        self.assertEqual((pair["chosen"][0]["content"], pair["rejected"][0]["content"]), (question.answer, "What?"))


class Make(unittest.TestCase):
    def test_stages(self):
        self.assertEqual(make.stages(make.parse(["--stop-after", "sft"])), ("data", "tokenizer", "pretrain", "sft"))
        self.assertEqual(make.stages(make.parse(["--students"]))[-1], "examine-students")
        with self.assertRaisesRegex(make.Failed, "--stop-after student: is not one of data, tokenizer"):
            make.stages(make.parse(["--stop-after", "student"]))
        given = make.stages(make.parse(["--from", "nano.gguf"]))
        self.assertEqual(given[:3], ("data", "take", "mistakes"))
        self.assertFalse(set(given) & set(make.GIVEN))

    def test_every_training_stage_has_its_recipe(self):
        for name in make.TRAINING:
            self.assertEqual(make.scaled_steps(name, make.HOURS), make.recipe_steps(name))
            self.assertEqual(make.scaled_steps(name, 0.0001), 2)
            self.assertIn(f"\nout: runs/{name}\n", (make.HERE / f"{name}.yaml").read_text(encoding="utf-8"))

    def test_students_differ_by_the_teacher_only(self):
        plain, distilled = ((make.HERE / f"{name}.yaml").read_text(encoding="utf-8").split("\n") for name in ("student", "student-distilled"))
        different = {line.split(":")[0].strip() for line in set(plain) ^ set(distilled) if not line.startswith("#")}
        self.assertEqual(different, {"description", "objective", "out", "distillation", "teacher", "ratio", "temperature"})

    def test_what_is_done_is_skipped_and_what_was_begun_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            options = make.parse(["--work", folder, "--puna", "/bin/puna", "--hours", "1"])
            commands = []
            maker = make.Maker(options)
            maker.run = lambda *command: commands.append([str(part) for part in command])
            (Path(folder) / "done").mkdir()
            maker.make("sft")
            self.assertEqual(commands.pop()[1:], ["train", str(make.HERE / "sft.yaml"), "--steps", str(make.recipe_steps("sft") // 2)])
            maker.make("sft")
            self.assertEqual(commands, [])
            begun = Path(folder).resolve() / "runs" / "dpo"
            begun.mkdir(parents=True)
            (begun / "recipe.yaml").write_text("", encoding="utf-8")
            maker.make("dpo")
            self.assertEqual(commands.pop()[1:], ["train", str(begun), "--resume"])


if __name__ == "__main__":
    unittest.main()
