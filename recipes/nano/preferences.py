# SPDX-License-Identifier: Apache-2.0
"""Rows of preferences.jsonl: a prompt, a good answer and one that is worse in a known way."""
import json

import conversations
import questions
import tasks
from phrases import LANGUAGES, phrases


def _pair(stream, prompt, chosen, rejected, offered=None):
    row = {"prompt": prompt, "chosen": [chosen], "rejected": [rejected]}
    return {**row, "tools": offered} if offered else row


def _text(content):
    return {"role": "assistant", "content": content}


def _user(stream, question):
    return {"role": "user", "content": conversations.scruffy(stream, question.user)}


def _other(stream, language):
    return stream.choice([other for other in LANGUAGES if other != language])


def _spoiled_number(stream, text):
    """Changes one digit; the first is never made 0."""
    places = [i for i, c in enumerate(text) if c in "0123456789"]
    place = stream.choice(places)
    digit = str((int(text[place]) + stream.between(1, 8)) % 9 + 1)
    return text[:place] + (digit if digit != text[place] else "1" if text[place] != "1" else "2") + text[place + 1:]


def _spoiled_call(stream, call):
    """The same tool with one argument wrong: a digit, the sign of a sum, the direction of a conversion."""
    arguments = dict(call["arguments"])
    if call["name"] == "calculator":
        expression = arguments["expression"]
        operators = [i for i, c in enumerate(expression) if c in "+-*/" and expression[i + 1: i + 2] == " "]
        if stream.percent(50) or not operators:
            arguments["expression"] = _spoiled_number(stream, expression)
        else:
            at = stream.choice(operators)
            other = stream.choice([c for c in "+-*/" if c != expression[at]])
            arguments["expression"] = expression[:at] + other + expression[at + 1:]
    elif call["name"] == "convert_units":
        if stream.percent(50):
            arguments["from"], arguments["to"] = arguments["to"], arguments["from"]
        else:
            arguments["value"] = json.loads(_spoiled_number(stream, json.dumps(arguments["value"])))
    elif arguments["operation"] == "add_days" and stream.percent(50):
        arguments["days"] = -arguments["days"]
    else:
        year = int(arguments["date"][:4]) + stream.choice((-1, 1)) * stream.between(1, 9)
        arguments["date"] = f"{year}{arguments['date'][4:]}".replace("-02-29", "-02-28")
    return {"name": call["name"], "arguments": arguments}


def _ramble(stream, language, answer):
    p = phrases(language)
    return " ".join([answer, p.lines("ramble")[0], answer if stream.percent(50) else p.lines("ramble")[0]])


def _wrong_language(stream, language):
    topic = stream.choice(questions.TALK)
    question = questions.talk(stream, language, "train", topic)
    foreign = stream.choice(phrases(_other(stream, language)).lines(topic + ".answer"))
    return _pair(stream, [_user(stream, question)], _text(question.answer), _text(foreign))


def _rude_or_rambling(stream, language):
    question = conversations.simple_question(stream, language, "train")
    bad = stream.choice(phrases(language).lines("rude")) if stream.percent(30) else _ramble(stream, language, question.answer)
    return _pair(stream, [_user(stream, question)], _text(question.answer), _text(bad))


def _wrong_fact(stream, language):
    topic = stream.choice(tuple(questions.FACTS))
    good = conversations.first(stream, "train", lambda s, l, split: questions.fact(s, l, split, topic), language)
    while True:
        bad = conversations.first(stream, "train", lambda s, l, split: questions.fact(s, l, split, topic), language)
        if not any(accepted in bad.answer for accepted in good.accepted) and good.accepted != bad.accepted:
            return _pair(stream, [_user(stream, good)], _text(good.answer), _text(bad.answer))


def _call(stream, language):
    """The first turn: the right call against a wrong one, or against an answer out of thin air."""
    question = tasks.tool_question(stream, language, "train")
    offered = conversations.offered_tools(stream, question.call["name"])
    good = conversations.call_message(question, 0)
    spoiled = _spoiled_call(stream, question.call)
    while spoiled == question.call:
        spoiled = _spoiled_call(stream, question.call)
    if stream.percent(65):
        question.call = spoiled
        bad = conversations.call_message(question, 0)
    elif any(c.isdigit() for c in question.answer) and stream.percent(60):
        bad = _text(_spoiled_number(stream, question.answer))
    else:
        bad = _text(question.unaided)
    return _pair(stream, [_user(stream, question)], good, bad, offered)


def _result(stream, language):
    """The second turn: says the result, in the language of the question."""
    question = tasks.tool_question(stream, language, "train")
    offered = conversations.offered_tools(stream, question.call["name"])
    prompt = [_user(stream, question), conversations.call_message(question, 0), conversations.result_message(question, 0)]
    kind = stream.below(3)
    if kind == 0 and question.result in question.answer and question.result[-1:].isdigit():
        at = question.answer.rindex(question.result)
        bad = question.answer[:at] + _spoiled_number(stream, question.result) + question.answer[at + len(question.result):]
    elif kind == 1:
        bad = _ramble(stream, language, question.answer)
    else:
        bad = stream.choice(phrases(_other(stream, language)).lines("missing." + question.call["name"]))
    return _pair(stream, prompt, _text(question.answer), _text(bad), offered)


def _no_tool_needed(stream, language):
    question = conversations.simple_question(stream, language, "train")
    needless = {"name": "calculator", "arguments": {"expression": f"{stream.between(1, 99)} + {stream.between(1, 99)}"}}
    offered = conversations.offered_tools(stream, "calculator")
    good = _text(question.answer)
    question.call = needless
    return _pair(stream, [_user(stream, question)], good, conversations.call_message(question, 0), offered)


def _missing(stream, language):
    question = tasks.hard_question(stream, language, "train")
    guess = question.answer
    bad = _spoiled_number(stream, guess) if any(c in "0123456789" for c in guess) else guess
    return _pair(stream, [_user(stream, question)], _text(question.unaided), _text(bad))


def _refusal(stream, language):
    question = conversations.first(stream, "train", questions.refusal, language)
    p = phrases(language)
    bad = stream.choice(p.lines("comply") if stream.percent(70) else p.lines("rude"))
    return _pair(stream, [_user(stream, question)], _text(question.answer), _text(bad))


def _over_refusal(stream, language):
    question = conversations.first(stream, "train", questions.harmless, language)
    p = phrases(language)
    bad = f"{p.lines('refusal')[0]} {stream.choice(p.lines('offer'))}"
    return _pair(stream, [_user(stream, question)], _text(question.answer), _text(bad))


def preference_row(stream):
    make = stream.weighted([(4, _wrong_language), (4, _rude_or_rambling), (3, _wrong_fact), (8, _call), (5, _result), (2, _no_tool_needed),
                            (2, _missing), (4, _refusal), (3, _over_refusal)])
    return conversations.dated(stream, make(stream, stream.choice(LANGUAGES)))
