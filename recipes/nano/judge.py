#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the reward model says: how often it orders pairs rightly that it never saw, and whether one model's answers to the examination
please it more than another's. Only first turns are judged.
Usage: judge.py REWARD --before A.jsonl --after B.jsonl [--eval eval.jsonl] [--pairs preferences.jsonl] [--puna PATH] [--json]"""
import argparse
import json
import math
import subprocess
import sys

import score
from examine import DATE

Z = 1.959964  # of a 95% interval


def rewards(puna, model, rows):
    """-> {id: reward, or the list of rewards} of rows in the shapes of training data."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    result = subprocess.run([str(puna), "reward", str(model), "-"], input=text, text=True, check=True, stdout=subprocess.PIPE)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {line["id"]: line.get("reward", line.get("rewards")) for line in lines}


def said(raw, tools_offered):
    """What the model wrote, a call or a text, as a message."""
    call = score.parse_call(raw) if tools_offered else None
    if not call:
        return {"role": "assistant", "content": score.plain_text(raw)}
    function = {"name": call[0], "arguments": json.dumps(call[1], ensure_ascii=False)}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "call_0", "type": "function", "function": function}]}


def conversation(row, answer):
    """A question of the examination with the answer to it as a conversation."""
    asked = {"id": row["id"], "messages": row["messages"] + [said(answer["turn1"], bool(row["tools"]))], "today": DATE}
    return {**asked, "tools": row["tools"]} if row["tools"] else asked


def mean_interval(values):
    """-> mean and half of its 95% interval (normal)."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, Z * math.sqrt(variance / len(values))


def preference(before, after):
    """Of rewards for the same questions: means, the paired difference, and how often the later answer wins where they differ."""
    keys = [key for key in before if key in after]
    pairs = [(before[key], after[key]) for key in keys]
    wins, losses = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
    low, high = score.wilson(wins, wins + losses)
    difference, half = mean_interval([b - a for a, b in pairs])
    return {"questions": len(pairs), "before": mean_interval([a for a, _ in pairs])[0], "after": mean_interval([b for _, b in pairs])[0],
            "difference": difference, "difference_low": difference - half, "difference_high": difference + half,
            "wins": wins, "losses": losses, "ties": len(pairs) - wins - losses,
            "win_rate": wins / max(1, wins + losses), "win_low": low, "win_high": high}


def judge(options):
    rows = {row["id"]: row for row in score.read_jsonl(options.eval)}
    sides = []
    for path in (options.before, options.after):
        asked = [conversation(rows[answer["id"]], answer) for answer in score.read_jsonl(path)]
        sides.append(rewards(options.puna, options.reward, asked))
    result = {"preference": preference(*sides)}
    if options.pairs:
        scored = rewards(options.puna, options.reward, score.read_jsonl(options.pairs)).values()
        right = sum(better > worse for better, worse in scored)
        low, high = score.wilson(right, len(scored))
        result["pairs"] = {"right": right, "total": len(scored), "share": right / len(scored), "low": low, "high": high}
    return result


def print_result(result):
    if "pairs" in result:
        p = result["pairs"]
        print(f"the reward model orders {p['right']} of {p['total']} unseen pairs rightly: {p['share']:.1%} ({p['low']:.1%} to {p['high']:.1%})")
    p = result["preference"]
    print(f"mean reward of {p['questions']} answers: {p['before']:.3f} before, {p['after']:.3f} after; difference {p['difference']:+.3f} "
          f"({p['difference_low']:+.3f} to {p['difference_high']:+.3f})")
    print(f"the later answer wins {p['wins']}, loses {p['losses']}, is the same {p['ties']} times: win rate {p['win_rate']:.1%} "
          f"({p['win_low']:.1%} to {p['win_high']:.1%})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reward", help="the reward model")
    parser.add_argument("--before", required=True, help="answers of examine.py")
    parser.add_argument("--after", required=True)
    parser.add_argument("--eval", default="data/eval.jsonl")
    parser.add_argument("--pairs", help="preferences that were not trained on")
    parser.add_argument("--puna", default="puna", help="the program")
    parser.add_argument("--json", action="store_true")
    result = judge(options := parser.parse_args())
    print(json.dumps(result, indent=1)) if options.json else print_result(result)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"judge.py: {error.cmd[0]} ended with exit code {error.returncode}")
    except OSError as error:
        sys.exit(f"judge.py: {error}")
