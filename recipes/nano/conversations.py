# SPDX-License-Identifier: Apache-2.0
"""Questions become conversations: rows of sft.jsonl and eval.jsonl in OpenAI's form. The reader writes tool calls in the prompt format's
own dialect (bare JSON for Llama 3.1); the other dialects appear here as plain text, with the instructions that ask for them."""
import json

import questions
import tasks
import tools
from phrases import phrases

SYSTEMS = ("You are nano, a small and helpful assistant.", "You are a helpful assistant.", "Be brief.")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Of the rows, by how hard a language is for nano and how much is asked of it.
SHARES = [(10, "en"), (8, "de"), (8, "fr"), (7, "it"), (8, "pt"), (10, "hi"), (7, "es"), (9, "th")]
CATEGORIES = ("talk", "facts", "small_sum", "arithmetic", "percent", "units", "dates", "needless_tools", "missing_tool", "refusal",
              "harmless")


def dated(stream, row):
    """Half of the conversations tell the day they were held, as a chat's prompt does: any day, so that none is waited for."""
    if stream.percent(50):
        row["today"] = f"{stream.between(1, 28):02} {stream.choice(MONTHS)} {stream.between(2024, 2035)}"
    return row


def scruffy(stream, text):
    """People's ways with capitals and punctuation; what is asked stays."""
    if stream.percent(60):
        return text
    if stream.percent(50):
        text = text.rstrip("?!.।。 ")
    if stream.percent(50):
        text = text[:1].lower() + text[1:]
    if stream.percent(25):
        text = text.lower()
    if stream.percent(50):
        text = text.lstrip("¿¡")
    if stream.percent(10):
        text += stream.choice(["!", "?", " ?", "..", " :)"])
    return text


def call_message(question, number):
    return {"role": "assistant", "content": "", "tool_calls": [{"id": f"call_{number}", "type": "function", "function": {
        "name": question.call["name"], "arguments": json.dumps(question.call["arguments"], ensure_ascii=False)}}]}


def result_message(question, number):
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": question.result}


def turn(stream, question, number, aided=True):
    """-> the messages of one question and its answer."""
    messages = [{"role": "user", "content": scruffy(stream, question.user)}]
    if question.call and aided:
        messages += [call_message(question, number), result_message(question, number)]
    answer = question.answer if aided or not question.call else question.unaided
    return messages + [{"role": "assistant", "content": answer}]


def offered_tools(stream, *needed, never=None):
    """A random choice that holds the needed tools and not the one that is never to be there."""
    names = [name for name in tools.TOOLS if name not in (*needed, never)]
    chosen = stream.shuffled(names)[: stream.below(len(names) + 1)]
    offered = [tools.TOOLS[name] for name in tools.TOOLS if name in chosen or name in needed]
    if stream.percent(25) or not offered:
        offered.append(stream.choice(tools.OTHERS))
    return stream.shuffled(offered)


def first(stream, split, make, *arguments):
    """Draws until there is a question for the split: a topic may have nothing held out, a language always has something."""
    while True:
        question = make(stream, *arguments, split)
        if question:
            return question


def simple_question(stream, language, split):
    make = stream.weighted([(4, questions.talk), (6, questions.fact), (1, questions.harmless)])
    return first(stream, split, make, language)


# Training ---------------------------------------------------------------------------------------------------------------------


def _row(stream, messages, offered=None):
    if stream.percent(8):
        messages = [{"role": "system", "content": stream.choice(SYSTEMS)}] + messages
    return {"messages": messages, "tools": offered} if offered else {"messages": messages}


def _simple(stream, language):
    messages = []
    for number in range(stream.weighted([(4, 1), (3, 2), (2, 3), (1, 4)])):
        messages += turn(stream, simple_question(stream, language, "train"), number)
    return _row(stream, messages)


def _tool(stream, language):
    """Up to three questions with the same tools: the tools' own text is longer than any question. Some of the later ones need none."""
    asked = [tasks.tool_question(stream, language, "train")]
    for _ in range(stream.weighted([(4, 0), (3, 1), (3, 2)])):
        make = stream.weighted([(1, simple_question), (3, tasks.tool_question)])
        asked.append(make(stream, language, "train"))
    asked = stream.shuffled(asked)
    messages = [message for number, question in enumerate(asked) for message in turn(stream, question, number)]
    return _row(stream, messages, offered_tools(stream, *(question.call["name"] for question in asked if question.call)))


def _needless(stream, language):
    make = stream.weighted([(6, simple_question), (2, questions.refusal)])
    return _row(stream, turn(stream, first(stream, "train", make, language), 0), offered_tools(stream))


def _missing(stream, language):
    question = tasks.hard_question(stream, language, "train")
    offered = offered_tools(stream, never=question.call["name"]) if stream.percent(40) else None
    return _row(stream, turn(stream, question, 0, aided=False), offered)


def _small(stream, language):
    return _row(stream, turn(stream, tasks.small_sum(stream, language, "train"), 0))


def _refusal(stream, language):
    messages = turn(stream, first(stream, "train", questions.refusal, language), 0)
    if stream.percent(20):  # friendly again afterwards
        messages += turn(stream, simple_question(stream, language, "train"), 1)
    return _row(stream, messages)


def _harmless(stream, language):
    return _row(stream, turn(stream, first(stream, "train", questions.harmless, language), 0))


def _function_tag(offered, call):
    parts = []
    for tool in offered:
        function = tool["function"]
        parts.append(f"Use the function '{function['name']}' to '{function['description']}':\n{json.dumps(function)}")
    system = ("You have access to the following functions:\n\n" + "\n\n".join(parts) + "\n\nIf you choose to call a function ONLY reply "
              "in the following format with no prefix or suffix:\n\n"
              '<function=example_function_name>{"example_name": "example_value"}</function>')
    return system, f"<function={call['name']}>{json.dumps(call['arguments'])}</function>"


def _pythonic(offered, call):
    system = ("You are an expert in composing functions. If you decide to invoke any of the functions, you MUST put it in the format "
              "of [func_name1(params_name1=params_value1, params_name2=params_value2...)]\nHere is a list of functions in JSON format "
              "that you can invoke.\n\n" + json.dumps([tool["function"] for tool in offered]))
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in call["arguments"].items())
    return system, f"[{call['name']}({arguments})]"


def _other_dialect(stream, language):
    question = tasks.tool_question(stream, language, "train")
    offered = offered_tools(stream, question.call["name"])
    system, call = stream.choice((_function_tag, _pythonic))(offered, question.call)
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": scruffy(stream, question.user)},
                         {"role": "assistant", "content": call}]}


def _many(stream, language):
    """Four to seven short questions one after the other: most knowledge for the fewest tokens."""
    topics = [(3, "capitals"), (4, "neighbours"), (2, "opposites"), (1, "counting"), (1, "words"), (1, "colours")]
    messages = []
    for number in range(stream.between(4, 7)):
        make = stream.weighted([(6, questions.fact), (4, questions.talk)])
        topic = (stream.weighted(topics),) if make is questions.fact else ()
        messages += turn(stream, first(stream, "train", lambda s, l, split: make(s, l, split, *topic), language), number)
    return _row(stream, messages)


def _many_with_tools(stream, language):
    """The same with tools at hand that none of them needs."""
    return {**_many(stream, language), "tools": offered_tools(stream)}


def _many_sums(stream, language):
    messages = []
    for number in range(stream.between(4, 7)):
        messages += turn(stream, tasks.small_sum(stream, language, "train"), number)
    return _row(stream, messages)


def second_row(stream):
    """Of the second round: mostly facts, talk and small sums, and of the rest enough that nothing is forgotten. A row with tools is as
    long as two or three without."""
    language = stream.weighted(SHARES)
    make = stream.weighted([(50, _many), (10, _many_with_tools), (6, _needless), (13, _tool), (4, _missing), (11, _many_sums),
                            (2, _refusal), (4, _harmless)])
    return dated(stream, make(stream, language))


def training_row(stream):
    language = stream.weighted(SHARES)
    make = stream.weighted([(28, _simple), (35, _tool), (10, _needless), (6, _missing), (9, _small), (6, _refusal), (4, _harmless),
                            (2, _other_dialect)])
    return dated(stream, make(stream, language))


# Evaluation -------------------------------------------------------------------------------------------------------------------


def examined(stream, language, category, split):
    """-> a question of a category, and the row that asks it and says what is right."""
    makers = {"talk": questions.talk, "facts": questions.fact, "small_sum": tasks.small_sum, "arithmetic": tasks.calculation,
              "percent": tasks.percentage, "units": tasks.conversion, "dates": tasks.date_question, "needless_tools": simple_question,
              "missing_tool": tasks.hard_question, "refusal": questions.refusal, "harmless": questions.harmless}
    question = first(stream, split, makers[category], language)
    expect, offered = {"contains": question.accepted}, []
    if category == "missing_tool":
        expect = {"contains": phrases(language).lines("missing." + question.call["name"])}
    elif question.call:
        expect = {"call": question.call, "result": question.result, "contains": question.accepted}
        offered = offered_tools(stream, question.call["name"])
    elif category == "needless_tools":
        offered = offered_tools(stream)
    elif category == "refusal":
        expect = {"refusal": question.accepted}
    if category == "harmless":
        expect["avoid"] = phrases(language).lines("refusal")
    return question, {"language": language, "category": category, "messages": [{"role": "user", "content": question.user}],
                      "tools": offered, "expect": expect}


def evaluation_row(stream, language, category):
    return examined(stream, language, category, "eval")[1]
