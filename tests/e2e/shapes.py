# SPDX-License-Identifier: Apache-2.0
"""Answers against the shapes that the APIs' publishers give them (tests/golden/server), and streams byte by byte."""

import json
import os
import re

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden", "server")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float)}
_schemas = {}


def schema(name):
    if name not in _schemas:
        with open(os.path.join(FOLDER, name + ".schema.json")) as file:
            _schemas[name] = json.load(file)
    return _schemas[name]


def _is_type(value, name):
    return isinstance(value, TYPES[name]) and not (isinstance(value, bool) and name in ("integer", "number"))


def _fault_of_object(value, rule, root, place):
    properties = rule.get("properties", {})
    for name in rule.get("required", []):
        if name not in value:
            return "%s.%s is missing" % (place, name)
    for name, item in value.items():
        inner = properties.get(name, rule.get("additionalProperties", True))
        if inner is False:
            return "%s.%s is one too many" % (place, name)
        if inner is not True:
            found = _fault(item, inner, root, "%s.%s" % (place, name))
            if found:
                return found
    return None


def _fault_of_array(value, rule, root, place):
    if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
        return "%s has %d items" % (place, len(value))
    faults = (_fault(item, rule["items"], root, "%s[%d]" % (place, i)) for i, item in enumerate(value) if "items" in rule)
    return next((found for found in faults if found), None)


def _fault_of_scalar(value, rule, place):
    if isinstance(value, str):
        if len(value) < rule.get("minLength", 0):
            return "%s is %r, which is too short" % (place, value)
        if "pattern" in rule and not re.search(rule["pattern"], value):
            return "%s is %r, expected %s" % (place, value, rule["pattern"])
    elif isinstance(value, (int, float)) and not rule.get("minimum", value) <= value <= rule.get("maximum", value):
        return "%s is %r, which is out of range" % (place, value)
    return None


# What is wrong with a value, or None. The keywords are those that the schemas use; another is an error, and not passed over.
def _fault(value, rule, root, place):
    unknown = set(rule) - {"$schema", "$defs", "$ref", "description", "type", "properties", "required", "additionalProperties",
                           "items", "minItems", "maxItems", "minLength", "pattern", "minimum", "maximum", "const", "enum", "anyOf"}
    assert not unknown, unknown
    if "$ref" in rule:
        return _fault(value, root["$defs"][rule["$ref"].rsplit("/", 1)[1]], root, place)
    if "anyOf" in rule:
        faults = [_fault(value, one, root, place) for one in rule["anyOf"]]
        return None if None in faults else "; or ".join(faults)
    names = rule.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(_is_type(value, name) for name in names):
        return "%s is %s, expected %s" % (place, json.dumps(value)[:80], " or ".join(names))
    if "const" in rule and value != rule["const"] or "enum" in rule and value not in rule["enum"]:
        return "%s is %s, expected %s" % (place, json.dumps(value)[:80], rule.get("enum", rule.get("const")))
    if isinstance(value, dict):
        return _fault_of_object(value, rule, root, place)
    if isinstance(value, list):
        return _fault_of_array(value, rule, root, place)
    return _fault_of_scalar(value, rule, place)


# Raises where a value is not of that shape.
def check_shape(value, name):
    found = _fault(value, schema(name), schema(name), name)
    assert found is None, "%s in %s" % (found, json.dumps(value)[:2000])
    return value


# The same for a schema of an OpenAPI document, whose others are `schemas`.
def check_schema(value, rule, schemas, place):
    found = _fault(value, rule, {"$defs": schemas}, place)
    assert found is None, "%s in %s" % (found, json.dumps(value)[:2000])


# An OpenAI stream's bytes: frames, one id, one role for each choice, the usage only where it was asked for, [DONE] last and once.
# The events that are JSON.
def check_stream(data, shape, usage=False):
    assert data.endswith(b"\n\n"), data[-200:]
    frames = [frame for frame in data[:-2].split(b"\n\n") if frame != b":"]  # a comment keeps the connection alive
    for frame in frames:
        assert b"\n" not in frame and b"\r" not in frame and frame.startswith(b"data: "), frame
        frame.decode()  # each is whole UTF-8
    assert frames[-1] == b"data: [DONE]", frames[-1]
    assert frames.count(b"data: [DONE]") == 1
    events = [check_shape(json.loads(frame[6:]), shape) for frame in frames[:-1]]
    assert len({(event["id"], event["created"], event["model"], event["object"]) for event in events}) == 1, events
    with_usage = [event for event in events if event.get("usage") is not None]
    assert len(with_usage) == (1 if usage else 0), with_usage
    if usage:
        assert events[-1] is with_usage[0] and events[-1]["choices"] == [], events[-1]
    ended, roles = set(), {}
    for event in events[:-1] if usage else events:
        assert event["choices"], event
        for choice in event["choices"]:
            assert choice["index"] not in ended, choice
            if choice["finish_reason"] is not None:
                ended.add(choice["index"])
                assert choice.get("delta", {}) == {} and choice.get("text", "") == "", choice
            if "role" in choice.get("delta", {}):
                roles[choice["index"]] = roles.get(choice["index"], 0) + 1
    assert set(roles.values()) <= {1}, roles
    assert shape == "completion_chunk" or set(roles) == ended, (roles, ended)
    return events


# One choice of a streamed chat, put together: its text, its tool calls, its finish reason.
def joined(events, index=0):
    text, calls, reason = "", [], None
    for event in events:
        for choice in event["choices"]:
            if choice["index"] != index:
                continue
            delta = choice.get("delta", choice)
            text += delta.get("content", delta.get("text")) or ""
            reason = choice["finish_reason"] or reason
            for part in delta.get("tool_calls", []):
                if "id" in part:
                    assert part["index"] == len(calls), part
                    calls.append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
                calls[part["index"]]["arguments"] += part["function"].get("arguments", "")
    return text, calls, reason
