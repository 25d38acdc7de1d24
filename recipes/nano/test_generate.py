#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of nano's data: the same bytes everywhere, evaluation questions unseen in training, tool calls that give what the text says,
refusals where they belong, and a scorer that tells right from wrong."""
import hashlib
import json
import re
import string
import unittest

import conversations
import generate
import questions
import score
import tools
from phrases import LANGUAGES, phrases
from stream import Stream, is_held_out, normalised

ROWS = 1500
# Of the first 200 rows of each file at seed 1. Data that change on purpose change these; nothing else may.
HASHES = {"pretrain": "8161273567a5fbf5", "sft": "471cda049ffbc77a", "drill": "9f35052921368f1a", "sft2": "b012b111f3ea5bc3",
          "preferences": "ad1312ab52c76c43", "eval": "ce5de06af30c1082"}


def training(name, count=ROWS):
    make = {row[0]: row[2] for row in generate.TRAINING}[name]
    return list(generate.training_rows(name, make, 1, count))


def digest(rows):
    return hashlib.sha256("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()).hexdigest()[:16]


def calls(messages):
    """-> (call, result, final answer) of every tool call in a conversation."""
    for i, message in enumerate(messages):
        if message.get("tool_calls") and i + 2 < len(messages):
            yield message["tool_calls"][0]["function"], messages[i + 1]["content"], messages[i + 2]["content"]


class Streams(unittest.TestCase):
    def test_splitmix64(self):
        stream = Stream(1)
        stream._state = 1234567  # the reference's first values for this state
        self.assertEqual([stream.bits() for _ in range(3)], [6457827717110365317, 3203168211198807973, 9817491932198370423])

    def test_choices_stay_in_range(self):
        stream = Stream(7, "range")
        self.assertEqual({stream.between(3, 5) for _ in range(200)}, {3, 4, 5})
        self.assertEqual(sorted(stream.shuffled(range(9))), list(range(9)))

    def test_case_and_punctuation_do_not_make_another_question(self):
        self.assertEqual(normalised("¿Cuánto es 3 + 4?"), normalised("cuánto es  3 + 4"))
        self.assertNotEqual(normalised("3 + 4"), normalised("3 * 4"))
        self.assertNotEqual(normalised("की"), normalised("का"))


class Files(unittest.TestCase):
    def test_bytes_are_the_same_everywhere(self):
        found = {name: digest(training(name, 200)) for name, _, _ in generate.TRAINING}
        found["eval"] = digest(list(generate.evaluation_rows(1, 2)))
        self.assertEqual(found, HASHES)

    def test_seeds_differ(self):
        make = generate.TRAINING[1][2]
        self.assertNotEqual(digest(generate.training_rows("sft", make, 1, 20)), digest(generate.training_rows("sft", make, 2, 20)))

    def test_no_evaluation_question_is_in_training(self):
        asked = {normalised(row["messages"][0]["content"]) for row in generate.evaluation_rows(1, 24)}
        seen = set()
        for row in training("sft") + training("sft2"):
            seen.update(normalised(message["content"]) for message in row["messages"] if message["role"] == "user")
        for row in training("preferences"):
            seen.update(normalised(message["content"]) for message in row["prompt"] if message["role"] == "user")
        for name in ("pretrain", "drill"):
            for row in training(name):
                seen.update(normalised(line) for line in row["text"].split("\n"))
        self.assertGreater(len(asked), 1500)
        self.assertGreater(len(seen), 3000)
        self.assertEqual(asked & seen, set())

    def test_no_held_out_call_is_in_training(self):
        for row in training("sft"):
            for call, _, _ in calls(row["messages"]):
                if call["name"] == "calculator":
                    self.assertFalse(is_held_out("calculator " + json.loads(call["arguments"])["expression"]), call)

    def test_every_call_gives_what_the_text_says(self):
        count = 0
        for row in training("sft"):
            offered = [tool["function"]["name"] for tool in row.get("tools", [])]
            for call, result, answer in calls(row["messages"]):
                arguments = json.loads(call["arguments"])
                self.assertEqual(tools.execute(call["name"], arguments), result)
                self.assertIn(call["name"], offered)
                if call["name"] != "date_math" and not result.startswith("error"):
                    self.assertTrue(score.holds(answer, result), (answer, result))
                count += 1
        self.assertGreater(count, 300)

    def test_some_conversations_call_twice_or_three_times(self):
        several = [row for row in training("sft", 600) if len(list(calls(row["messages"]))) > 1]
        self.assertEqual({len(list(calls(row["messages"]))) for row in several}, {2, 3})
        for row in several:
            ids = [message["tool_call_id"] for message in row["messages"] if message["role"] == "tool"]
            self.assertEqual(ids, sorted(set(ids)))

    def test_refusals_only_where_they_belong(self):
        refusals = {language: phrases(language).lines("refusal")[0] for language in LANGUAGES}
        harmful = {normalised(entry.user) for language in LANGUAGES for entry in questions.refusal_entries(language)["train"]}
        refused = 0
        for row in training("sft"):
            for before, message in zip(row["messages"], row["messages"][1:]):
                if before["role"] == "user":
                    is_refusal = any(message["content"].startswith(text) for text in refusals.values())
                    self.assertEqual(normalised(before["content"]) in harmful, is_refusal, (before, message))
                    refused += is_refusal
        self.assertGreater(refused, 50)

    def test_preferences_prefer(self):
        for row in training("preferences"):
            self.assertNotEqual(row["chosen"], row["rejected"], row)
            self.assertEqual(row["prompt"][0]["role"], "user")

    def test_every_category_is_examined_in_every_language(self):
        seen = {(row["language"], row["category"]) for row in generate.evaluation_rows(1, 2)}
        self.assertEqual(seen, {(language, category) for language in LANGUAGES for category in conversations.CATEGORIES})


class Languages(unittest.TestCase):
    def test_all_have_the_same_sections(self):
        for language in LANGUAGES:
            self.assertEqual(set(phrases(language).sections()) - {"contractions"}, set(phrases("en").sections()), language)

    def test_every_language_has_enough_wordings(self):
        few = {"plus.user", "minus.user", "times.user", "divided.user", "before_date.user", "country.user", "week.user", "year.user"}
        for language in LANGUAGES:
            p = phrases(language)
            for section in p.sections():
                lines = p.lines(section)
                self.assertEqual(len(lines), len(set(lines)), (language, section))
                if section.endswith(".user") or section == "frames":
                    self.assertGreaterEqual(len(lines), 5 if section in few else 11, (language, section))

    def test_slots_are_the_same_in_all_languages(self):
        def slots(language, section):
            names = [field for line in phrases(language).lines(section) for _, field, _, _ in string.Formatter().parse(line) if field]
            return {name[0].lower() + name[1:] for name in names} - {"c", "o", "of_to"}

        for language in LANGUAGES:
            for section in phrases("en").sections():
                self.assertEqual(slots(language, section), slots("en", section), (language, section))

    def test_every_guard_category_has_actions(self):
        for language in LANGUAGES:
            categories = [category for category, _ in phrases(language).rows("acts")]
            self.assertEqual(set(categories), {f"S{n}" for n in range(1, 15)}, language)
            if language == "hi":  # bent by its last letter
                self.assertTrue(all(action.endswith("ना") for _, action in phrases("hi").rows("acts")))

    def test_words_melt_together(self):
        self.assertEqual(phrases("es").fill("después de {a}", a="el lunes"), "después del lunes")
        self.assertEqual(phrases("it").fill("dal {d} al {e}", d="8 marzo 2024", e="11 marzo 2024"), "dall'8 marzo 2024 all'11 marzo 2024")
        self.assertEqual(phrases("fr").fill("habite à {c}", c="Le Caire"), "habite au Caire")

    def test_no_question_is_asked_in_two_languages(self):
        """Which answer would be right?"""
        asked = {}
        for language in LANGUAGES:
            for section in phrases(language).sections():
                if section.endswith(".user"):
                    for line in phrases(language).lines(section):
                        self.assertEqual(asked.setdefault(normalised(line), language), language, line)

    def test_scripts(self):
        for language, letters in (("hi", r"[\u0900-\u097f]"), ("th", r"[\u0e00-\u0e7f]")):
            for section in phrases(language).sections():
                for line in phrases(language).lines(section):
                    if not re.fullmatch(r"(\{\w+\}|[\W\d_])*", line):
                        self.assertRegex(line, letters)


class Tools(unittest.TestCase):
    def test_calculator(self):
        for expression, result in (("2 + 3 * 4", "14"), ("(2 + 3) * 4", "20"), ("7 / 8", "0.875"), ("1 / 3", "0.3333"), ("-5 - -2", "-3"),
                                   ("0.00004 - 0", "0"), ("2 / 3", "0.6667"), ("999999 * 999999", "999998000001"), ("6 × 7 ÷ 2", "21")):
            self.assertEqual(tools.execute("calculator", {"expression": expression}), result, expression)

    def test_errors_are_told(self):
        for expression, error in (("1 / 0", "division by zero"), ("2 +", "a number is missing"), ("(1", "a bracket is not closed"),
                                  ("2 x 3", "unexpected 'x'"), ("1 2", "unexpected '2'"), ("1" * 201, "the expression is too long")):
            self.assertEqual(tools.execute("calculator", {"expression": expression}), "error: " + error)
        self.assertEqual(tools.execute("calculator", {}), "error: the argument 'expression' is missing")
        self.assertEqual(tools.execute("oracle", {}), "error: there is no tool 'oracle'")
        self.assertEqual(tools.execute("convert_units", {"value": 1, "from": "kg", "to": "m"}), "error: mass is not length")

    def test_units_and_dates(self):
        for value, source, target, result in ((10, "km", "mi", "6.2137"), (100, "C", "F", "212"), (0, "F", "C", "-17.7778"),
                                              (5, "lb", "kg", "2.268"), (90, "min", "h", "1.5"), (2.5, "m", "cm", "250")):
            self.assertEqual(tools.execute("convert_units", {"value": value, "from": source, "to": target}), result)
        date = {"date": "2024-02-28"}
        self.assertEqual(tools.execute("date_math", {"operation": "weekday", **date}), "Wednesday")
        self.assertEqual(tools.execute("date_math", {"operation": "add_days", "days": 2, **date}), "2024-03-01")
        self.assertEqual(tools.execute("date_math", {"operation": "days_between", "other": "2023-02-28", **date}), "365")


class Scores(unittest.TestCase):
    def setUp(self):
        self.rows = list(generate.evaluation_rows(1, 6))

    def perfect(self, row):
        expect = row["expect"]
        text = expect.get("refusal", expect.get("contains"))[0]
        if "call" not in expect:
            return {"id": row["id"], "turn1": text + "<|eot_id|>", "turn2": None}
        call = {"name": expect["call"]["name"], "parameters": expect["call"]["arguments"]}
        return {"id": row["id"], "turn1": json.dumps(call) + "<|eot_id|>", "turn2": text}

    def test_right_answers_pass(self):
        for row in self.rows:
            self.assertEqual(score.failure(row, self.perfect(row)), "", row)

    def test_wrong_answers_fail(self):
        by_category = {row["category"]: row for row in self.rows if row["language"] == "de"}
        row = by_category["arithmetic"]
        self.assertEqual(score.failure(row, {"turn1": row["expect"]["result"]}), "no call")
        spoiled = {"name": "calculator", "parameters": {"expression": "1 + 1"}}
        self.assertEqual(score.failure(row, {"turn1": json.dumps(spoiled)}), "wrong call")
        good = self.perfect(row)
        self.assertEqual(score.failure(row, {**good, "turn2": "Das Ergebnis ist " + row["expect"]["result"] + "1."}), "wrong content")
        self.assertEqual(score.failure(row, {**good, "turn2": "The result is " + row["expect"]["result"] + "."}), "wrong language")
        self.assertEqual(score.failure(by_category["refusal"], {"turn1": "Klar, das ist einfach."}), "no refusal")
        self.assertEqual(score.failure(by_category["harmless"], {"turn1": "Dabei kann ich nicht helfen."}), "refused")
        self.assertEqual(score.failure(by_category["talk"], {"turn1": json.dumps(spoiled)}), "needless call")
        self.assertEqual(score.failure(by_category["talk"], None), "no answer")

    def test_dialects(self):
        expected = ("convert_units", {"value": 5, "from": "km", "to": "mi"})
        for raw in ('{"name": "convert_units", "parameters": {"value": 5, "from": "km", "to": "mi"}}',
                    '<|python_tag|>{"type": "function", "name": "convert_units", '
                    '"parameters": {"value": 5, "from": "km", "to": "mi"}}<|eom_id|>',
                    '<function=convert_units>{"value": 5, "from": "km", "to": "mi"}</function><|eot_id|>'):
            self.assertEqual(score.parse_call(raw), expected, raw)
        self.assertEqual(score.parse_call('[calculator(expression="2+2")]'), ("calculator", {"expression": "2+2"}))
        for raw in ("Hello!", "{not json", "[1, 2]", "<b>bold</b>", '{"name": 1, "parameters": []}'):
            self.assertIsNone(score.parse_call(raw), raw)

    def test_calls_are_compared_by_meaning(self):
        call = {"name": "calculator", "arguments": {"expression": "2 * (3 + 4)"}}
        self.assertTrue(score.same_call(call, ("calculator", {"expression": "2×(3+4)"})))
        self.assertFalse(score.same_call(call, ("calculator", {"expression": "2 * 3 + 4"})))
        units = {"name": "convert_units", "arguments": {"value": 5, "from": "km", "to": "mi"}}
        self.assertTrue(score.same_call(units, ("convert_units", {"value": "5.0", "from": "km", "to": "mi"})))

    def test_numbers_stand_alone(self):
        self.assertTrue(score.holds("Das sind 3,5.", "3.5"))
        self.assertFalse(score.holds("Das sind 13.5", "3.5"))
        self.assertFalse(score.holds("35", "3"))
        self.assertFalse(score.holds("-3", "3"))

    def test_wilson(self):
        for share in score.wilson(8, 10):  # the bounds are the shares at which 0.8 is just z standard errors away
            self.assertAlmostEqual(abs(0.8 - share), 1.959964 * (share * (1 - share) / 10) ** 0.5, places=9)
        self.assertEqual(score.wilson(0, 0), (0.0, 1.0))

    def test_report_counts_what_is_missing_as_failed(self):
        answers = {row["id"]: self.perfect(row) for row in self.rows if row["language"] != "th"}
        scores = {(s["language"], s["category"]): s for s in score.report(self.rows, answers)["scores"]}
        self.assertEqual(scores["th", "all"]["passed"], 0)
        self.assertEqual(scores["en", "all"]["passed"], scores["en", "all"]["total"])


if __name__ == "__main__":
    unittest.main()
