#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes nano from nothing: data, tokenizer, five trainings, the GGUF file, and its examination. Every stage whose output is
there is skipped, and a training run that was stopped goes on from its newest checkpoint, so the same command continues.
Usage: make.py [--work FOLDER] [--hours H] [--scale F] [--from FILE] [--students] [--stop-after STAGE] [--install]"""
import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAIN_LINE = ("data", "tokenizer", "pretrain", "sft", "sft2", "mistakes", "reward", "dpo", "export", "examine", "judge")
GIVEN = ("tokenizer", "pretrain", "sft", "sft2")  # with --from, "take" stands in their place
COMPARISON = ("student", "student-distilled", "examine-students")  # with --students
TRAINING = ("pretrain", "sft", "sft2", "reward", "dpo", "student", "student-distilled")
HOURS = 2.0  # what the recipes' steps take on two cores at 5,000 tokens a second; the comparison takes as long again
SCALE_PER_HOUR = 1.5
MISTAKES = 4000  # questions asked at scale 1, of which about a tenth are answered wrongly
VOCABULARY = 4096


class Failed(Exception):
    """A command that did not end well, with the stage it belongs to."""


def stages(options):
    chosen = MAIN_LINE + (COMPARISON if options.students else ())
    if options.given:
        chosen = ("data", "take") + tuple(stage for stage in chosen[1:] if stage not in GIVEN)
    if options.stop_after is None:
        return chosen
    if options.stop_after not in chosen:
        raise Failed(f"--stop-after {options.stop_after}: is not one of {', '.join(chosen)}")
    return chosen[: chosen.index(options.stop_after) + 1]


def recipe_steps(name):
    for line in (HERE / f"{name}.yaml").read_text(encoding="utf-8").split("\n"):
        if line.startswith("steps:"):
            return int(line.split(":")[1])
    raise Failed(f"{name}.yaml: says no steps")


def scaled_steps(name, hours):
    return max(2, round(recipe_steps(name) * hours / HOURS))


class Maker:
    def __init__(self, options):
        self.options, self.work = options, options.work.resolve()

    def run(self, *command):
        print("$ " + " ".join(str(part) for part in command), flush=True)
        result = subprocess.run([str(part) for part in command], cwd=self.work)
        if result.returncode != 0:
            raise Failed(f"exit code {result.returncode}; the same command goes on from here")

    def puna(self, *arguments):
        self.run(self.options.puna, *arguments)

    def python(self, script, *arguments):
        self.run(sys.executable, HERE / script, *arguments)

    def data(self):
        """Text, conversations and preferences; fresh rows of the same kind to watch the loss on; and the examination."""
        for seed, out, scale in ((1, "data", self.options.scale), (2, "data/validation", 0.02)):
            self.python("generate.py", "--split", "train", "--seed", seed, "--out", out, "--scale", scale)
        self.python("generate.py", "--split", "eval", "--seed", 1, "--out", "data")

    def tokenizer(self):
        self.puna("train-tokenizer", "data/pretrain.jsonl", "data/sft.jsonl", "--vocab", VOCABULARY, "--out", "tokenizer.json",
                  "--force")

    def train(self, name):
        folder = self.work / "runs" / name
        if (folder / "recipe.yaml").exists():
            return self.puna("train", folder, "--resume")
        arguments = ["train", HERE / f"{name}.yaml", "--steps", scaled_steps(name, self.options.hours)]
        if self.options.threads:
            arguments += ["--threads", self.options.threads]
        return self.puna(*arguments)

    def take(self):
        """The given file in the place of what the second round would have made."""
        taken = Path("runs") / "sft2" / "latest"
        (self.work / taken).parent.mkdir(parents=True, exist_ok=True)
        self.puna("convert", self.options.given, taken, "--to", "hf", "--force")
        shutil.copyfile(self.work / taken / "tokenizer.json", self.work / "tokenizer.json")

    def mistakes(self):
        """What the second round answers wrongly when its answers are drawn."""
        self.python("mistakes.py", "runs/sft2/latest", "--puna", self.options.puna, "--questions",
                    max(50, round(MISTAKES * self.options.scale)), "--out", "data/mistakes.jsonl")

    def export(self):
        """Eight bits a weight: 5 MB."""
        self.puna("quantize", f"runs/{self.options.ship}/latest", "nano.gguf", "--type", "q8_0", "--force")

    def examine_models(self, models, temperature=0):
        """Every model, then what each of the others gained and lost against the first, then all in one table."""
        for name, model in models:
            self.python("examine.py", model, "--puna", self.options.puna, "--eval", "data/eval.jsonl", "--temp", temperature, "--out",
                        f"answers/{name}.jsonl")
        for name, _ in models[1:]:
            self.python("examine.py", "--eval", "data/eval.jsonl", "--compare", f"answers/{models[0][0]}.jsonl", f"answers/{name}.jsonl")
        self.python("examine.py", "--eval", "data/eval.jsonl", "--table", *(f"answers/{name}.jsonl" for name, _ in models))

    def examine(self):
        rounds = ("sft2", "dpo") if self.options.given else ("sft", "sft2", "dpo")
        self.examine_models([(name, f"runs/{name}/latest") for name in rounds] + [("nano", "nano.gguf")])
        self.python("examine.py", "--eval", "data/eval.jsonl", "--compare", f"answers/{self.options.ship}.jsonl", "answers/nano.jsonl")

    def judge(self):
        """The reward model on pairs it never saw, and on drawn answers of the models before and after DPO."""
        self.python("generate.py", "--split", "train", "--seed", 3, "--out", "data/judge", "--scale", 0.1)
        self.examine_models([(f"{name}-drawn", f"runs/{name}/latest") for name in ("sft2", "dpo")], temperature=1)
        self.python("judge.py", "runs/reward/latest", "--puna", self.options.puna, "--eval", "data/eval.jsonl", "--pairs",
                    "data/judge/preferences.jsonl", "--before", "answers/sft2-drawn.jsonl", "--after", "answers/dpo-drawn.jsonl")

    def examine_students(self):
        self.examine_models([(name, f"runs/{name}/latest") for name in ("student", "student-distilled")])

    def make(self, stage):
        done = self.work / "done" / stage
        if done.exists():
            print(f"== {stage}: is there", flush=True)
            return
        print(f"== {stage}", flush=True)
        start = time.time()
        self.train(stage) if stage in TRAINING else getattr(self, stage.replace("-", "_"))()
        done.write_text(f"{time.time() - start:.0f} s\n", encoding="utf-8")


def install(work):
    target = HERE.parent.parent / "models" / "nano" / "nano.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".new")
    shutil.copyfile(work / "nano.gguf", beside)
    os.replace(beside, target)
    print(f"{target}: {target.stat().st_size} bytes")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--puna", type=Path, default=HERE.parent.parent / "build" / "release" / "puna", help="the program")
    parser.add_argument("--work", type=Path, default=HERE.parent.parent / "build" / "nano-run", help="where everything is made")
    parser.add_argument("--hours", type=float, default=HOURS, help="of training the main line: all steps follow")
    parser.add_argument("--scale", type=float, help="of the data; without it as much as the hours read about once")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--ship", choices=("sft", "sft2", "dpo"), default="sft2", help="the stage that is exported")
    parser.add_argument("--from", dest="given", type=Path, metavar="FILE",
                        help="begin after the second round, with this model (models/nano/nano.gguf) as what it made")
    parser.add_argument("--students", action="store_true", help="and two small students, one with nano as its teacher")
    parser.add_argument("--stop-after", metavar="STAGE", help=", ".join(MAIN_LINE + COMPARISON))
    parser.add_argument("--install", action="store_true", help="then copy the file to models/nano")
    options = parser.parse_args(arguments)
    if options.scale is None:
        options.scale = SCALE_PER_HOUR * options.hours
    return options


def main():
    options = parse(None)
    options.puna = Path(shutil.which(options.puna) or options.puna).resolve()
    options.given = options.given and options.given.resolve()
    try:
        chosen = stages(options)
        for folder in ("done", "answers"):
            (options.work / folder).mkdir(parents=True, exist_ok=True)
        for stage in chosen:
            Maker(options).make(stage)
        if options.install:
            install(options.work)
    except Failed as error:
        sys.exit(f"make.py: {error}")


if __name__ == "__main__":
    main()
