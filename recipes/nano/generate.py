#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the data nano learns from, or the questions it is examined with. The same arguments give the same bytes on every Python from
3.9 on. Usage: generate.py --split train|eval --seed N --out FOLDER [--scale F]"""
import argparse
import json
import sys
from pathlib import Path

from conversations import CATEGORIES, evaluation_row, second_row, training_row
from phrases import LANGUAGES
from preferences import preference_row
from pretrain import drill_row, pretrain_row
from stream import Stream, normalised

TRAINING = (("pretrain", 60000, pretrain_row), ("sft", 30000, training_row), ("drill", 2000, drill_row),  # rows at scale 1
            ("sft2", 9000, second_row), ("preferences", 8000, preference_row))
EVALUATION_ROWS = 24  # per language and category, fewer where less is held out


def write_rows(path, rows):
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    print(f"{path}: {count} rows, {path.stat().st_size} bytes", file=sys.stderr)


def training_rows(name, make, seed, count):
    for index in range(count):
        yield make(Stream(seed, "train", name, index))


def evaluation_rows(seed, count):
    """No question twice within a category."""
    for language in LANGUAGES:
        for category in CATEGORIES:
            seen = set()
            for attempt in range(count * 8):
                row = evaluation_row(Stream(seed, "eval", language, category, attempt), language, category)
                text = normalised(row["messages"][0]["content"])
                if text in seen:
                    continue
                seen.add(text)
                yield {"id": f"{language}.{category}.{len(seen)}", **row}
                if len(seen) == count:
                    break


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("train", "eval"), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows; 1 makes about 47 MB")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.split == "eval":
        count = max(1, round(EVALUATION_ROWS * options.scale))
        write_rows(options.out / "eval.jsonl", evaluation_rows(options.seed, count))
        return
    for name, rows, make in TRAINING:
        count = max(1, round(rows * options.scale))
        write_rows(options.out / f"{name}.jsonl", training_rows(name, make, options.seed, count))


if __name__ == "__main__":
    main()
