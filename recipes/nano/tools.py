#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tools nano knows (tools.json describes them, in OpenAI's form) and what they answer. Exact fractions inside, at most four decimals out.
Usage: tools.py NAME JSON, for example: tools.py calculator '{"expression": "12 * (3 + 4)"}'"""
import datetime
import json
import sys
from fractions import Fraction
from pathlib import Path


class ToolError(Exception):
    """What the model gets to read instead of a result."""


def _function(name, description, properties, required):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": required}}}


def _field(kind, description):
    return {"type": kind, "description": description}


UNITS = {  # name: (quantity, factor to the quantity's base, offset); base = value * factor + offset
    "mm": ("length", Fraction(1, 1000), 0), "cm": ("length", Fraction(1, 100), 0), "m": ("length", Fraction(1), 0),
    "km": ("length", Fraction(1000), 0), "in": ("length", Fraction(254, 10000), 0), "ft": ("length", Fraction(3048, 10000), 0),
    "mi": ("length", Fraction(1609344, 1000), 0),
    "g": ("mass", Fraction(1), 0), "kg": ("mass", Fraction(1000), 0), "oz": ("mass", Fraction(28349523125, 10**9), 0),
    "lb": ("mass", Fraction(45359237, 10**5), 0),
    "ml": ("volume", Fraction(1, 1000), 0), "l": ("volume", Fraction(1), 0), "gal": ("volume", Fraction(3785411784, 10**9), 0),
    "s": ("time", Fraction(1), 0), "min": ("time", Fraction(60), 0), "h": ("time", Fraction(3600), 0),
    "d": ("time", Fraction(86400), 0),
    "C": ("temperature", Fraction(1), 0), "F": ("temperature", Fraction(5, 9), Fraction(-160, 9)),
}

TOOLS = {tool["function"]["name"]: tool for tool in json.loads((Path(__file__).resolve().parent / "tools.json").read_text("utf-8"))}
# Tools that are offered at times and never needed: having tools is no reason to call one.
OTHERS = [
    _function("set_timer", "Ring after some minutes.", {"minutes": _field("integer", "how many")}, ["minutes"]),
    _function("play_music", "Play a song.", {"title": _field("string", "title of the song")}, ["title"]),
    _function("send_message", "Send a message to a contact.",
              {"to": _field("string", "name of the contact"), "text": _field("string", "the message")}, ["to", "text"]),
]


def number_text(value):
    """At most four decimals, half away from zero, no trailing zeros."""
    value = Fraction(value)
    scaled = (abs(value.numerator) * 20000 + value.denominator) // (2 * value.denominator)
    sign = "-" if value < 0 and scaled else ""
    text = f"{sign}{scaled // 10000}.{scaled % 10000:04}"
    return text.rstrip("0").rstrip(".")


def _tokens(expression):
    tokens, at = [], 0
    text = expression.replace("×", "*").replace("÷", "/").replace("−", "-")
    while at < len(text):
        c = text[at]
        if c.isspace():
            at += 1
        elif c in "+-*/()":
            tokens.append(c)
            at += 1
        elif c in "0123456789.":
            end = at
            while end < len(text) and text[end] in "0123456789.":
                end += 1
            tokens.append(text[at:end])
            at = end
        else:
            raise ToolError(f"unexpected {c!r}")
    return tokens


def normal_expression(expression):
    """One spelling for equal expressions that differ in spaces and signs only."""
    return " ".join(_tokens(expression))


def evaluate(expression):
    """sum := product (("+" | "-") product)*;  product := factor (("*" | "/") factor)*;  factor := "-" factor | "(" sum ")" | number"""
    if len(expression) > 200:
        raise ToolError("the expression is too long")
    tokens = _tokens(expression)
    at = 0

    def peek():
        return tokens[at] if at < len(tokens) else ""

    def take():
        nonlocal at
        at += 1
        return tokens[at - 1] if at <= len(tokens) else ""

    def factor():
        token = take()
        if token == "-":
            return -factor()
        if token == "(":
            value = total()
            if take() != ")":
                raise ToolError("a bracket is not closed")
            return value
        try:
            return Fraction(token)
        except (ValueError, ZeroDivisionError):
            raise ToolError("a number is missing") from None

    def product():
        value = factor()
        while peek() and peek() in "*/":
            if take() == "*":
                value *= factor()
            else:
                divisor = factor()
                if divisor == 0:
                    raise ToolError("division by zero")
                value /= divisor
        return value

    def total():
        value = product()
        while peek() and peek() in "+-":
            value = value + product() if take() == "+" else value - product()
        return value

    value = total()
    if at != len(tokens):
        raise ToolError(f"unexpected {tokens[at]!r}")
    return value


def calculator(arguments):
    return number_text(evaluate(str(arguments["expression"])))


def convert_units(arguments):
    for end in ("from", "to"):
        if arguments[end] not in UNITS:
            raise ToolError(f"unknown unit {arguments[end]!r}")
    quantity, factor, offset = UNITS[arguments["from"]]
    other, other_factor, other_offset = UNITS[arguments["to"]]
    if quantity != other:
        raise ToolError(f"{quantity} is not {other}")
    base = Fraction(str(arguments["value"])) * factor + offset
    return number_text((base - other_offset) / other_factor)


def date_math(arguments):
    date = datetime.date.fromisoformat(arguments["date"])
    operation = arguments["operation"]
    if operation == "weekday":
        return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[date.weekday()]
    if operation == "days_between":
        return str(abs((datetime.date.fromisoformat(arguments["other"]) - date).days))
    if operation == "add_days":
        return (date + datetime.timedelta(days=int(arguments["days"]))).isoformat()
    raise ToolError(f"unknown operation {operation!r}")


def execute(name, arguments):
    """-> the text of the tool's message. What is wrong with a call is said in that text too."""
    functions = {"calculator": calculator, "convert_units": convert_units, "date_math": date_math}
    if name not in functions:
        return f"error: there is no tool {name!r}"
    try:
        return functions[name](arguments)
    except ToolError as error:
        return f"error: {error}"
    except KeyError as error:
        return f"error: the argument {error} is missing"
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, AttributeError) as error:
        return f"error: {error}"


if __name__ == "__main__":
    print(execute(sys.argv[1], json.loads(sys.argv[2])))
