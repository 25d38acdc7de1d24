# SPDX-License-Identifier: Apache-2.0
"""Rows of pretrain.jsonl: plain text of the same small world in all languages. Stories, lists of facts, tables, calendars, questions
with their answers, and tool calls as text, so that copying numbers is known before the conversations are learned."""
import datetime
import json

import conversations
import questions
import tasks
import tools
from phrases import LANGUAGES, phrases, random_date
from stream import is_held_out


def _capital_letter(text):
    return text[:1].upper() + text[1:]


def _story(stream, language):
    p = phrases(language)
    people = stream.shuffled(p.lines("names"))
    lines = []
    for template in stream.shuffled(p.lines("story"))[: stream.between(3, 7)]:
        city, day = stream.choice(p.rows("capital.items"))[1], stream.choice(p.rows("day.items"))[0]
        lines.append(p.fill(template, n=people[0], o=people[1], c=city, d=day, m=stream.choice(p.months()), k=stream.between(2, 40),
                            f=stream.choice(p.lines("foods"))))
    return " ".join(lines)


def _facts(stream, language):
    topic = stream.choice(tuple(questions.FACTS))
    answers = []
    for _ in range(stream.between(4, 9)):
        entry = stream.choice(questions.fact_entries(language, topic)["train"])
        answers.append(_capital_letter(entry.answers[0]))  # the first sentence stands without its question
    return " ".join(answers)


def _dialogue(stream, language):
    lines = []
    for _ in range(stream.between(2, 5)):
        make = stream.weighted([(8, conversations.simple_question), (1, questions.refusal), (1, tasks.plain_small_sum)])
        question = conversations.first(stream, "train", make, language)
        lines += [question.user, question.answer]
    return "\n".join(lines)


def _sums(stream, language):
    """A table of small sums without the held-out ones."""
    operator, other = stream.choice("+-*"), stream.between(1, 10)
    lines = []
    for n in range(1, 11):
        expression = {"+": f"{n} + {other}", "-": f"{n + other} - {other}", "*": f"{n} * {other}"}[operator]
        if not is_held_out("calculator " + expression):
            lines.append(f"{expression} = {tools.number_text(tools.evaluate(expression))}")
    return "\n".join(lines)


def _units(stream, language):
    p = phrases(language)
    source, target = stream.choice(tasks.UNIT_PAIRS)
    lines = []
    for value in range(2, 2 + stream.between(5, 12)):
        arguments = {"value": value, "from": source, "to": target}
        result = tools.execute("convert_units", arguments)
        if result != "1" and not is_held_out(f"convert_units {value} {source} {target}"):
            slots = p.conversion_slots(value, source, target)
            lines.append(p.fill(p.lines("convert.answer")[-1], r=result, **slots))
    return "\n".join(lines)


def _calendar(stream, language):
    p = phrases(language)
    start = random_date(stream)
    lines = []
    for day in (start + datetime.timedelta(days=n) for n in range(stream.between(5, 12))):
        if not is_held_out(f"weekday {day}"):
            name = day.isoformat() if stream.percent(30) else p.date(day)
            lines.append(f"{name}: {p.weekdays()[day.weekday()]}")
    return "\n".join(lines)


def _iso_dates(stream, language):
    """The same date in both spellings: what a call needs and what a person reads."""
    p = phrases(language)
    dates = [random_date(stream) for _ in range(stream.between(4, 10))]
    return "\n".join(f"{p.date(day)} = {day.isoformat()}" for day in dates)


def _words(stream, language):
    numbers = list(phrases(language).number_words().items())
    start = stream.below(len(numbers) - 5)
    return ", ".join(f"{number}: {word}" for number, word in numbers[start: start + stream.between(5, 12)])


def _call(stream, language):
    question = tasks.tool_question(stream, language, "train")
    call = json.dumps({"name": question.call["name"], "parameters": question.call["arguments"]}, ensure_ascii=False)
    return "\n".join([question.user, call, question.result, question.answer])


def _tool_list(stream, language):
    """What Llama 3.1's prompt says about tools, with a question and the call: words the tokenizer should know well."""
    question = tasks.tool_question(stream, language, "train")
    offered = conversations.offered_tools(stream, question.call["name"])
    descriptions = "\n\n".join(json.dumps(tool, indent=4) for tool in offered)
    call = json.dumps({"name": question.call["name"], "parameters": question.call["arguments"]}, ensure_ascii=False)
    return ("Environment: ipython\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nGiven the following functions, please "
            "respond with a JSON for a function call with its proper arguments that best answers the given prompt.\n\nRespond in the format "
            '{"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
            f"{descriptions}\n\n{question.user}\n{call}")


def drill_row(stream):
    """Sums up to 20 in no order: what the second stage learns by heart beside its conversations."""
    expressions = [tasks.small_expression(stream) for _ in range(24)]
    return {"text": "\n".join(f"{expression} = {tools.number_text(tools.evaluate(expression))}" for expression in expressions)}


def pretrain_row(stream):
    language = stream.choice(LANGUAGES)
    make = stream.weighted([(14, _story), (16, _facts), (26, _dialogue), (4, _sums), (6, _units), (5, _calendar), (6, _iso_dates),
                            (3, _words), (22, _call), (2, _tool_list)])
    return {"text": make(stream, language)}
