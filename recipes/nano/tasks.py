# SPDX-License-Identifier: Apache-2.0
"""Questions that need a tool: sums, percentages, units, dates. Each is drawn until its content belongs to the split; the content is
what the tool is asked, the same in every language and wording."""
import datetime
import re

import tools
from phrases import phrases, random_date
from questions import Question
from stream import is_held_out

UNIT_PAIRS = [("km", "mi"), ("mi", "km"), ("m", "ft"), ("ft", "m"), ("cm", "in"), ("in", "cm"), ("mm", "cm"), ("m", "cm"), ("km", "m"),
               ("cm", "m"), ("m", "km"), ("kg", "lb"), ("lb", "kg"), ("g", "oz"), ("oz", "g"), ("kg", "g"), ("g", "kg"), ("l", "gal"),
               ("gal", "l"), ("l", "ml"), ("ml", "l"), ("h", "min"), ("min", "h"), ("min", "s"), ("s", "min"), ("h", "s"), ("d", "h"),
               ("h", "d"), ("C", "F"), ("F", "C")]
_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided"}


def _until(split, draw):
    """draw() -> (content, value)"""
    while True:
        content, value = draw()
        if is_held_out(content) == (split == "eval"):
            return value


def _number(stream, digits=None):
    digits = digits or stream.weighted([(4, 1), (8, 2), (8, 3), (5, 4), (3, 5), (2, 6)])
    return stream.between(max(2, 10 ** (digits - 1)), 10**digits - 1)


def _question(stream, language, category, user, answers, call, accepted):
    """answers(phrases, result) -> final sentences; call: (name, arguments); accepted(result) -> what one of them must hold."""
    name, arguments = call
    result = tools.execute(name, arguments)
    p = phrases(language)
    return Question(language, category, user, stream.choice(answers(p, result)), accepted(result),
                    {"name": name, "arguments": arguments}, result, stream.choice(p.lines("missing." + name)))


def _written(stream, expression):
    """The same sum in a person's spelling."""
    text = expression
    if stream.percent(35):
        text = text.replace("*", "×")
    if stream.percent(25):
        text = text.replace("/", "÷")
    return text.replace(" ", "") if stream.percent(20) else text


def _plain_sum(stream):
    operator = stream.weighted([(3, "+"), (3, "-"), (3, "*"), (3, "/")])
    a, b = _number(stream), _number(stream)
    if operator == "-" and a < b and not stream.percent(15):
        a, b = b, a
    if operator == "/":
        b = _number(stream, stream.between(1, 2))
        if stream.percent(60):
            a = b * _number(stream, stream.between(1, 4))
    return f"{a} {operator} {b}"


def _long_sum(stream):
    a, b, c = (_number(stream, stream.between(1, 3)) for _ in range(3))
    one, two = stream.choice("+-*"), stream.choice("+-*")
    return stream.choice([f"{a} {one} {b} {two} {c}", f"({a} {one} {b}) * {c}", f"{a} * ({b} {two} {c})"])


def calculation(stream, language, split):
    p = phrases(language)

    def draw():
        expression = _long_sum(stream) if stream.percent(15) else _plain_sum(stream)
        if stream.percent(1):
            expression = f"{_number(stream)} / 0"
        return "calculator " + expression, expression

    expression = _until(split, draw)
    parts = expression.split(" ")
    slots = {"x": _written(stream, expression)}
    section = "calc.user"
    if len(parts) == 3 and parts[2] != "0" and stream.percent(55):
        slots.update(a=parts[0], b=parts[2])
        section = _WORDS[parts[1]] + ".user"
    user = p.fill(stream.choice(p.lines(section)), **slots)

    def answers(p, result):
        return p.lines("zero.answer") if result.startswith("error") else p.options("calc.answer", x=expression, r=result)

    def accepted(result):
        return p.lines("zero.answer") if result.startswith("error") else [result]

    return _question(stream, language, "arithmetic", user, answers, ("calculator", {"expression": expression}), accepted)


def small_expression(stream):
    operator = stream.choice("+-*")
    a, b = stream.between(1, 20), stream.between(1, 20)
    if operator == "+":
        a = stream.between(1, 19)
        b = stream.between(1, 20 - a)
    if operator == "-":
        a, b = max(a, b), min(a, b)
    if operator == "*":
        a = stream.between(1, 10)
        b = stream.between(1, 20 // a)
    return f"{a} {operator} {b}"


def _small_question(stream, language, expression):
    p = phrases(language)
    a, operator, b = expression.split(" ")
    section = _WORDS[operator] + ".user" if stream.percent(50) else "calc.user"
    user = p.fill(stream.choice(p.lines(section)), x=_written(stream, expression), a=a, b=b)
    result = tools.number_text(tools.evaluate(expression))
    return Question(language, "small_sum", user, stream.choice(p.options("calc.answer", x=expression, r=result)), [result])


def small_sum(stream, language, split):
    """Up to 20, known by heart: asked without tools and answered at once. Held out by wording, as facts are. The examination asks only
    sums that the text of the first stage leaves out, in whose dialogues its wordings may occur."""
    while True:
        expression = small_expression(stream)
        question = _small_question(stream, language, expression)
        if split == "train" and not is_held_out(question.user):
            return question
        if split == "eval" and is_held_out(question.user) and is_held_out("calculator " + expression):
            return question


def plain_small_sum(stream, language, split):
    """The same for text, without the sums that are held out by their numbers."""
    def draw():
        expression = small_expression(stream)
        return "calculator " + expression, expression

    return _small_question(stream, language, _until(split, draw))


def percentage(stream, language, split):
    p = phrases(language)

    def draw():
        percent = stream.weighted([(3, stream.between(1, 20) * 5), (2, stream.between(2, 99))])
        expression = f"{_number(stream, stream.between(2, 6))} * {percent} / 100"
        return "calculator " + expression, expression

    expression = _until(split, draw)
    number, _, percent, *_ = expression.split(" ")
    user = p.fill(stream.choice(p.lines("percent.user")), p=percent, n=number)
    return _question(stream, language, "percent", user, lambda p, r: p.options("percent.answer", p=percent, n=number, r=r),
                     ("calculator", {"expression": expression}), lambda r: [r])


def conversion(stream, language, split):
    p = phrases(language)

    def draw():
        source, target = stream.choice(UNIT_PAIRS)
        value = stream.between(2, 9999 if stream.percent(20) else 300)
        if stream.percent(15):
            value = value + stream.between(1, 9) / 10  # one decimal: prints the same everywhere
        arguments = {"value": value, "from": source, "to": target}
        if tools.execute("convert_units", arguments) == "1":  # the phrases speak of many
            return draw()
        return f"convert_units {value} {source} {target}", arguments

    arguments = _until(split, draw)
    slots = p.conversion_slots(arguments["value"], arguments["from"], arguments["to"])
    temperature = arguments["from"] in "CF"  # degrees are not counted
    templates = [t for t in p.lines("convert.user") if not (temperature and "how_many" in t.lower())]
    user = p.fill(stream.choice(templates), **slots)
    return _question(stream, language, "units", user, lambda p, r: p.options("convert.answer", r=r, **slots),
                     ("convert_units", arguments), lambda r: [r])


def _date_text(stream, language, date):
    return date.isoformat() if stream.percent(30) else phrases(language).date(date)


def date_question(stream, language, split):
    kind = stream.choice((_weekday, _days_between, _add_days))
    return kind(stream, language, split)


def _weekday(stream, language, split):
    p = phrases(language)

    def draw():
        date = random_date(stream)
        return f"weekday {date}", date

    date = _until(split, draw)
    text = _date_text(stream, language, date)
    user = p.fill(stream.choice(p.lines("weekday.user")), d=text)
    return _question(stream, language, "dates", user, lambda p, r: p.options("weekday.answer", d=text, w=p.weekday(r)),
                     ("date_math", {"operation": "weekday", "date": date.isoformat()}), lambda r: [p.weekday(r)])


def _days_between(stream, language, split):
    p = phrases(language)

    def draw():
        first = random_date(stream)
        second = first + datetime.timedelta(days=stream.between(3, 1500 if stream.percent(40) else 200))
        return f"days_between {first} {second}", (first, second)

    first, second = _until(split, draw)
    iso = stream.percent(30)
    d, e = (date.isoformat() if iso else p.date(date) for date in (first, second))
    user = p.fill(stream.choice(p.lines("between.user")), d=d, e=e)
    return _question(stream, language, "dates", user, lambda p, r: p.options("between.answer", d=d, e=e, r=r),
                     ("date_math", {"operation": "days_between", "date": first.isoformat(), "other": second.isoformat()}), lambda r: [r])


def _add_days(stream, language, split):
    p = phrases(language)

    def draw():
        date, days = random_date(stream), stream.between(2, 400 if stream.percent(30) else 90)
        days = -days if stream.percent(50 if split == "train" else 30) else days  # the rarer sign is forgotten
        return f"add_days {date} {days}", (date, days)

    date, days = _until(split, draw)
    section = "add.user" if days > 0 else "before_date.user"
    user = p.fill(stream.choice(p.lines(section)), d=_date_text(stream, language, date), n=abs(days))

    def text(result):
        return p.date(datetime.date.fromisoformat(result))

    return _question(stream, language, "dates", user, lambda p, r: p.options("add.answer", r=text(r)),
                     ("date_math", {"operation": "add_days", "date": date.isoformat(), "days": days}), lambda r: [text(r), r])


def tool_question(stream, language, split):
    make = stream.weighted([(8, calculation), (3, percentage), (5, conversion), (5, date_question)])
    return make(stream, language, split)


def hard_question(stream, language, split):
    """A tool question that nobody would answer by heart: what to ask where the tool is missing."""
    while True:
        question = tool_question(stream, language, split)
        numbers = [int(part) for part in re.findall(r"\d+", question.call["arguments"].get("expression", "21"))]
        if max(numbers) > 20:
            return question
