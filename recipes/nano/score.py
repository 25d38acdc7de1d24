#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scores a model's answers to eval.jsonl, with Wilson's 95% intervals per language and category.
Usage: score.py --eval eval.jsonl --answers answers.jsonl [--json]
Each line of the answers: {"id": ..., "turn1": raw text, "turn2": raw text after the tool's result, or null}. A question that is missing
counts as failed. Where a call is expected, turn 1 must be exactly that call and turn 2 must state the result."""
import argparse
import ast
import collections
import functools
import json
import math
import re
import unicodedata
from fractions import Fraction

import tools
from phrases import LANGUAGES, phrases

_SPECIAL = re.compile(r"<\|(?!python_tag)[a-z_]+\|>")
_SCRIPTS = {"hi": "DEVANAGARI", "th": "THAI"}


# What the model said -----------------------------------------------------------------------------------------------------------


def _json_call(text):
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or "name" not in value:
        return None
    return value["name"], value.get("parameters", value.get("arguments", {}))


def _tag_call(text):
    match = re.match(r"<function=([^>]+)>(\{.*\})", text, re.S)
    if not match:
        return None
    try:
        return match[1], json.loads(match[2])
    except ValueError:
        return None


def _pythonic_call(text):
    try:
        tree = ast.parse(text, mode="eval").body
        call = tree.elts[0]
        return call.func.id, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError, IndexError, RecursionError, MemoryError):
        return None


def plain_text(raw):
    """Without special tokens."""
    return _SPECIAL.sub("", raw).replace("<|python_tag|>", "").strip()


def parse_call(raw):
    """-> (name, arguments) in any of Llama 3's dialects, or None where it is plain text."""
    text = plain_text(raw)
    reader = {"{": _json_call, "<": _tag_call, "[": _pythonic_call}.get(text[:1])
    call = reader(text) if reader else None
    return call if call and isinstance(call[1], dict) else None


def _same_value(expected, got):
    try:
        return Fraction(str(expected)) == Fraction(str(got))
    except (ValueError, ZeroDivisionError):
        return str(expected).strip() == str(got).strip()


def same_call(expected, got):
    if got is None or got[0] != expected["name"] or set(got[1]) != set(expected["arguments"]):
        return False
    if expected["name"] == "calculator":
        try:
            return tools.normal_expression(str(got[1]["expression"])) == tools.normal_expression(expected["arguments"]["expression"])
        except tools.ToolError:
            return False
    return all(_same_value(value, got[1][name]) for name, value in expected["arguments"].items())


# Whether it is right -----------------------------------------------------------------------------------------------------------


def holds(text, value):
    """A number must stand alone; a decimal comma is as good as a point. Words count in any case."""
    pattern = re.escape(value.casefold())
    if value[:1].isdigit() or value[:1] == "-":
        pattern = r"(?<![\d.,-])" + pattern.replace(r"\.", "[.,]")
    if value[-1:].isdigit():
        pattern += r"(?!\d|[.,]\d)"
    return re.search(pattern, text.casefold()) is not None


def _script(character):
    name = unicodedata.name(character, "")
    return "DEVANAGARI" if name.startswith("DEVANAGARI") else "THAI" if name.startswith("THAI") else "LATIN"


@functools.lru_cache(maxsize=None)
def _vocabulary(language):
    return frozenset(re.findall(r"[^\W\d_]+", " ".join(phrases(language).all_lines()).casefold()))


def language_fits(text, language):
    """Text without words fits every language. Otherwise the script must be right, and no other language may know more of the words."""
    scripts = collections.Counter(_script(c) for c in text if unicodedata.category(c)[0] in "LM")
    if not scripts:
        return True
    if scripts.most_common(1)[0][0] != _SCRIPTS.get(language, "LATIN"):
        return False
    words = re.findall(r"[^\W\d_]+", text.casefold())
    known = {other: sum(word in _vocabulary(other) for word in words) for other in LANGUAGES}
    return language in _SCRIPTS or known[language] == max(known.values())


def failure(row, answer):
    """-> "" where the answer is right, otherwise the first thing that is wrong."""
    if answer is None:
        return "no answer"
    expect, call = row["expect"], parse_call(answer["turn1"])
    text = answer["turn1"]
    if "call" in expect:
        if not same_call(expect["call"], call):
            return "wrong call" if call else "no call"
        if not answer.get("turn2"):
            return "no second turn"
        text = answer["turn2"]
        if parse_call(text):
            return "called again"
    elif call:
        return "needless call"
    text = _SPECIAL.sub("", text).strip()
    if any(holds(text, avoid) for avoid in expect.get("avoid", [])):
        return "refused"
    if not any(holds(text, value) for value in expect.get("refusal", expect.get("contains"))):
        return "no refusal" if "refusal" in expect else "wrong content"
    return "" if language_fits(text, row["language"]) else "wrong language"


# Report ------------------------------------------------------------------------------------------------------------------------


def wilson(passed, total, z=1.959964):
    """Wilson's score interval (1927) for a share."""
    if total == 0:
        return 0.0, 1.0
    share, spread = passed / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def report(rows, answers):
    groups, reasons = collections.defaultdict(list), collections.Counter()
    for row in rows:
        why = failure(row, answers.get(row["id"]))
        if why:
            reasons[f"{row['category']}: {why}"] += 1
        for key in (("all", "all"), (row["language"], "all"), ("all", row["category"]), (row["language"], row["category"])):
            groups[key].append(not why)
    scores = []
    for (language, category), results in groups.items():
        low, high = wilson(sum(results), len(results))
        scores.append({"language": language, "category": category, "passed": sum(results), "total": len(results),
                       "share": round(sum(results) / len(results), 4), "low": round(low, 4), "high": round(high, 4)})
    return {"scores": scores, "failures": dict(reasons.most_common())}


def print_table(result):
    print(f"{'language':9} {'category':15} {'passed':>11}   share  95% interval")
    for score in result["scores"]:
        if "all" in (score["language"], score["category"]):
            print(f"{score['language']:9} {score['category']:15} {score['passed']:5} /{score['total']:5}   {score['share']:5.1%}  "
                  f"{score['low']:.1%} to {score['high']:.1%}")
    for reason, count in result["failures"].items():
        print(f"{count:6}  {reason}")


def read_jsonl(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--answers", required=True)
    parser.add_argument("--json", action="store_true", help="everything, also per language and category")
    options = parser.parse_args()
    result = report(read_jsonl(options.eval), {answer["id"]: answer for answer in read_jsonl(options.answers)})
    print(json.dumps(result, indent=1)) if options.json else print_table(result)


if __name__ == "__main__":
    main()
