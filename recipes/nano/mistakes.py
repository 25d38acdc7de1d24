#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pairs from a model's own mistakes: draws its answers to questions of the training split, and writes those that are wrong as rejected
beside the right ones, in the shape of preferences.jsonl.
Usage: mistakes.py MODEL --out mistakes.jsonl [--puna PATH] [--questions N] [--seed N]"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import conversations
import score
from examine import DATE, examine, second_messages
from judge import said
from phrases import LANGUAGES
from stream import Stream

TEMPERATURE = 1


def asked(seed, count):
    """-> (question, row) of the training split, each language and category as often as the others."""
    for index in range(count):
        stream = Stream(seed, "mistakes", index)
        question, row = conversations.examined(stream, stream.choice(LANGUAGES), stream.choice(conversations.CATEGORIES), "train")
        yield question, {"id": str(index), **row}


def right_answer(question, row):
    if "call" in row["expect"]:
        return conversations.call_message(question, 0)
    return {"role": "assistant", "content": question.unaided if row["category"] == "missing_tool" else question.answer}


def pair(question, row, answer):
    """-> a row of preferences, or None where the answer is right or says nothing. A wrong second turn is wrong behind its call."""
    if not score.failure(row, answer):
        return None
    prompt, chosen, wrong = row["messages"], right_answer(question, row), answer["turn1"]
    if "call" in row["expect"] and score.same_call(row["expect"]["call"], score.parse_call(wrong)):
        name, arguments = score.parse_call(wrong)
        prompt, chosen, wrong = second_messages(row, name, arguments), {"role": "assistant", "content": question.answer}, answer["turn2"]
    rejected = said(wrong, bool(row["tools"]))
    if not rejected["content"] and "tool_calls" not in rejected:
        return None
    result = {"prompt": prompt, "chosen": [chosen], "rejected": [rejected], "today": DATE}
    return {**result, "tools": row["tools"]} if row["tools"] else result


def days(messages):
    """The days that a call adds, 0 where there are none."""
    for message in messages:
        for call in message.get("tool_calls", []):
            added = json.loads(call["function"]["arguments"]).get("days", 0)
            return added if isinstance(added, int) else 0
    return 0


def mirrored(stream, language, row):
    """-> for a row whose wrong call counts days the wrong way, one that is wrong the other way round; else None. Models err to one side:
    from their mistakes alone they would learn to err to the other."""
    right = days(row["chosen"])
    if right == 0 or days(row["rejected"]) != -right:
        return None
    while True:
        question, asked_row = conversations.examined(stream, language, "dates", "train")
        added = question.call["arguments"].get("days", 0)
        if added * right < 0:
            break
    call = {"name": question.call["name"], "parameters": {**question.call["arguments"], "days": -added}}
    return {"prompt": asked_row["messages"], "chosen": [right_answer(question, asked_row)], "rejected": [said(json.dumps(call), True)],
            "today": DATE, "tools": asked_row["tools"]}


def with_mirrored(seed, pairs):
    """All (language, row), each followed by its mirror image where it has one."""
    for index, (language, row) in enumerate(pairs):
        yield row
        other = mirrored(Stream(seed, "mirrored", index), language, row)
        if other:
            yield other


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--puna", default="puna", help="the program")
    parser.add_argument("--questions", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    questions = list(asked(options.seed, options.questions))
    answers = {answer["id"]: answer for answer in examine(options.puna, options.model, [row for _, row in questions], TEMPERATURE)}
    pairs = [(row["language"], pair(question, row, answers[row["id"]])) for question, row in questions if row["id"] in answers]
    rows = list(with_mirrored(options.seed, [(language, row) for language, row in pairs if row]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{options.out}: {len(rows)} pairs from {len(questions)} questions", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"mistakes.py: {error.cmd[0]} ended with exit code {error.returncode}")
    except OSError as error:
        sys.exit(f"mistakes.py: {error}")
