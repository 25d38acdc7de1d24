#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Examines a model: asks every question of eval.jsonl through `puna batch`, runs the tools it calls, lets it answer again, and prints
what is right per language and category. A call is run as it stands in the text, right or wrong, and only if it can be read.
Usage: examine.py MODEL [--puna PATH] [--eval eval.jsonl] [--out answers.jsonl] [--temp T] [--json]
       examine.py --compare A.jsonl B.jsonl [--eval eval.jsonl]      differences of B from A on the same questions
       examine.py --table A.jsonl B.jsonl ... [--eval eval.jsonl]    shares of each as a Markdown table"""
import argparse
import collections
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import score
import tools

DATE = "26 Jul 2024"  # of the prompts: the same answers on every day
MOST_TOKENS = 160  # the longest answers of the training data take about 70


# Asking ------------------------------------------------------------------------------------------------------------------------


def first_requests(rows):
    for row in rows:
        request = {"id": row["id"], "messages": row["messages"]}
        yield {**request, "tools": row["tools"]} if row["tools"] else request


def second_messages(row, name, arguments):
    """The question, a call of a tool, and what the tool says."""
    calls = [{"id": "call_0", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}]
    return row["messages"] + [{"role": "assistant", "content": "", "tool_calls": calls},
                              {"role": "tool", "tool_call_id": "call_0", "content": tools.execute(name, arguments)}]


def second_requests(rows, answers):
    """For each row whose answer calls a tool: the same conversation with that call and what the tool says."""
    for row in rows:
        call = score.parse_call(answers.get(row["id"], {}).get("raw", "")) if row["tools"] else None
        if call is None:
            continue
        yield {"id": row["id"], "tools": row["tools"], "messages": second_messages(row, *call)}


def ask(puna, model, requests, folder, name, temperature=0):
    """-> {id: the answer's line} of those that were answered. Above temperature 0 answers are drawn, the same ones every time."""
    questions, answers = Path(folder) / f"{name}.jsonl", Path(folder) / f"{name}.answers.jsonl"
    text = "".join(json.dumps(request, ensure_ascii=False) + "\n" for request in requests)
    if not text:
        return {}
    questions.write_text(text, encoding="utf-8")
    command = [puna, "batch", model, questions, answers, "--date", DATE, "--temp", str(temperature), "--seed", "1", "--max-tokens",
               str(MOST_TOKENS)]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    lines = score.read_jsonl(answers)
    for line in lines:
        if "error" in line:
            print(f"{line['id']}: {line['error']['message']}", file=sys.stderr)
    return {line["id"]: line for line in lines if "error" not in line}


def examine(puna, model, rows, temperature=0):
    """-> lines as score.py reads them."""
    with tempfile.TemporaryDirectory() as folder:
        first = ask(puna, model, first_requests(rows), folder, "first", temperature)
        second = ask(puna, model, second_requests(rows, first), folder, "second", temperature)
    raw = {name: {key: line["raw"] for key, line in lines.items()} for name, lines in (("first", first), ("second", second))}
    return [{"id": row["id"], "turn1": raw["first"][row["id"]], "turn2": raw["second"].get(row["id"])}
            for row in rows if row["id"] in raw["first"]]


# Comparing ---------------------------------------------------------------------------------------------------------------------


def paired(gained, lost, total, z=1.959964):
    """-> difference of two shares on the same questions, its 95% interval (Agresti & Min, 2005: Wald after half a question is added
    to each of the four cells), and McNemar's exact two-sided p."""
    if total == 0:
        return 0.0, -1.0, 1.0, 1.0
    n, b, c = total + 2, gained + 0.5, lost + 0.5
    centre = (b - c) / n
    half = z * math.sqrt(max(0.0, b + c - (b - c) ** 2 / n)) / n
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return (gained - lost) / total, max(-1.0, centre - half), min(1.0, centre + half), min(1.0, 2 * tail / 2 ** changed)


def compare(rows, before, after):
    """-> per language and category what B gained and lost; the groups of score.report()."""
    groups = collections.defaultdict(lambda: [0, 0, 0])
    for row in rows:
        was, now = (not score.failure(row, answers.get(row["id"])) for answers in (before, after))
        for key in (("all", "all"), (row["language"], "all"), ("all", row["category"])):
            groups[key][0] += now and not was
            groups[key][1] += was and not now
            groups[key][2] += 1
    result = []
    for (language, category), (gained, lost, total) in groups.items():
        difference, low, high, p = paired(gained, lost, total)
        result.append({"language": language, "category": category, "gained": gained, "lost": lost, "total": total,
                       "difference": round(difference, 4), "low": round(low, 4), "high": round(high, 4), "p": round(p, 6)})
    return result


def print_comparison(result):
    print(f"{'language':9} {'category':15} {'gained':>6} {'lost':>5} {'of':>6}   difference  95% interval       McNemar's p")
    for row in result:
        interval = f"{row['low']:+.1%} to {row['high']:+.1%}"
        print(f"{row['language']:9} {row['category']:15} {row['gained']:6} {row['lost']:5} {row['total']:6}   {row['difference']:+10.1%}"
              f"  {interval:18} {row['p']:.4f}")


def table(rows, answers):
    """-> Markdown: a row for all, each language and each category, a column for each of `answers`, {name: answers}."""
    reports = {name: {(s["language"], s["category"]): s for s in score.report(rows, given)["scores"]} for name, given in answers.items()}
    keys = [key for key in next(iter(reports.values())) if "all" in key]
    keys.sort(key=lambda key: (key != ("all", "all"), key[0] == "all"))
    lines = ["| | " + " | ".join(reports) + " |", "|---" * (len(reports) + 1) + "|"]
    for key in keys:
        cells = ["{:.1%} ({:.1%} to {:.1%})".format(passed / total, *score.wilson(passed, total))
                 for passed, total in ((report[key]["passed"], report[key]["total"]) for report in reports.values())]
        lines.append(f"| {key[1] if key[0] == 'all' else key[0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read_answers(path):
    return {answer["id"]: answer for answer in score.read_jsonl(path)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--puna", default="puna", help="the program")
    parser.add_argument("--eval", default="data/eval.jsonl")
    parser.add_argument("--out", type=Path, help="keep the answers in this file")
    parser.add_argument("--temp", type=float, default=0, help="temperature; 0 takes the likeliest token")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two files of answers")
    parser.add_argument("--table", nargs="+", metavar="FILE", help="files of answers")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    options = parser.parse_args()
    if sum(given is not None for given in (options.model, options.compare, options.table)) != 1:
        parser.error("give a model, or --compare and two files, or --table and files")
    rows = score.read_jsonl(options.eval)
    if options.table:
        return print(table(rows, {Path(path).stem: read_answers(path) for path in options.table}))
    if options.compare:
        result = compare(rows, *(read_answers(path) for path in options.compare))
    else:
        answers = examine(options.puna, options.model, rows, options.temp)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in answers), encoding="utf-8")
        result = score.report(rows, {answer["id"]: answer for answer in answers})
    if options.json:
        print(json.dumps(result, indent=1))
    elif options.compare:
        print_comparison(result)
    else:
        score.print_table(result)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"examine.py: {error.cmd[0]} ended with exit code {error.returncode}")
    except OSError as error:
        sys.exit(f"examine.py: {error}")
