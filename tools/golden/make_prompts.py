# SPDX-License-Identifier: Apache-2.0
"""Golden prompts, rendered by Jinja from the published templates themselves. The templates are not in the repository.

  python3 make_prompts.py TEMPLATES OUT.jsonl

TEMPLATES holds llama2.jinja, llama3.jinja, llama3.1.jinja, llama3.2.jinja (chat_template of the tokenizer_config.json of
Llama-2-7b-chat-hf, Meta-Llama-3-8B-Instruct, Llama-3.1-8B-Instruct, Llama-3.2-3B-Instruct), and llama-models' system_prompts.py
(models/llama3/prompt_templates, at its last commit) and tool_utils.py (models/llama3).
"""
import json
import sys
import types
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

templates, out = sys.argv[1], sys.argv[2]

WEATHER = {
    "name": "get_weather",
    "description": "Get weather info for places",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The name of the city to get the weather for"},
            "metric": {"type": "string", "description": "The metric for weather. Options are: celsius, fahrenheit", "default": "celsius"},
        },
        "required": ["city"],
    },
}
SONGS = {
    "name": "trending_songs",
    "description": "Returns the trending songs on a Music site",
    "parameters": {
        "type": "object",
        "properties": {
            "n": {"type": "int", "description": "The number of songs to return"},
            "genre": {"type": "str", "description": "The genre of the songs to return"},
        },
        "required": ["n"],
    },
}
ODD = {
    "name": "odd",
    "description": "Grüße, \"quotes\" & <tags>\n\ttabs",
    "parameters": {"type": "object", "properties": {"x": {"type": "number", "enum": [1, 2.5, 1e16, 1e-7, -0.0, None, True]}}, "required": []},
}


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def answer(text):
    return {"role": "assistant", "content": text}


def call(name, **arguments):
    return {"role": "assistant", "content": "", "tool_calls": [{"name": name, "arguments": arguments}]}


def result(text):
    return {"role": "tool", "content": text}


CHAT = [system("  You are a helpful assistant \n"), user(" Hi\u00a0"), answer("\nHello! "), user("Who are you?")]
TOOLS = [system("Be brief."), user("What is the weather in Zürich?"), call("get_weather", city="Zürich", days=[1, 2.0], deep={"a": None, "b": True}),
         result('{"temperature": 20, "text": "schön"}')]

# ---- Hugging Face ----------------------------------------------------------------------------------------------------------------


def raise_exception(message):
    raise RuntimeError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):  # as transformers overrides it
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception


def hf_message(message):
    message = dict(message)
    if "tool_calls" in message:
        message["tool_calls"] = [{"type": "function", "function": c} for c in message["tool_calls"]]
    return message


def hugging_face(name, messages, tools=(), builtin_tools=(), date="26 Jul 2024", generation_prompt=True, tools_in_system=False):
    variables = {"bos_token": "<s>" if name == "llama2" else "<|begin_of_text|>", "eos_token": "</s>",
                 "messages": [hf_message(m) for m in messages], "add_generation_prompt": generation_prompt}
    if date:
        variables["date_string"] = date
    if tools:
        variables["tools"] = [{"type": "function", "function": t} for t in tools]
    if builtin_tools:
        variables["builtin_tools"] = list(builtin_tools)
    if tools_in_system:
        variables["tools_in_user_message"] = False
    source = open(f"{templates}/{name}.jinja", encoding="utf-8").read()
    return environment.from_string(source).render(**variables)


# ---- Meta: ChatFormat around the texts of system_prompts.py ----------------------------------------------------------------------


@dataclass
class ToolParamDefinition:
    param_type: str
    description: Optional[str] = None
    required: Optional[bool] = True
    default: Any = None


@dataclass
class ToolDefinition:
    tool_name: Any
    description: Optional[str] = None
    parameters: Dict[str, ToolParamDefinition] = field(default_factory=dict)

    def model_dump(self):
        return asdict(self)


class BuiltinTool:
    brave_search, wolfram_alpha, photogen, code_interpreter = "brave_search", "wolfram_alpha", "photogen", "code_interpreter"


class PromptTemplate:
    def __init__(self, template, data):
        self.template, self.data = template, data

    def render(self):
        return Template(self.template).render(self.data)


def stub(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


class ToolPromptFormat:
    json, function_tag, python_list = "json", "function_tag", "python_list"


def load(file, package):
    module = types.ModuleType(f"{package}.loaded_{file[:-3]}")
    module.__package__ = package
    exec(compile(open(f"{templates}/{file}", encoding="utf-8").read(), file, "exec"), module.__dict__)
    return module


for package in ("llama_models", "llama_models.llama3", "llama_models.llama3.api", "llama_models.llama3.prompt_templates"):
    stub(package, __path__=[])
stub("llama_models.llama3.api.datatypes", BuiltinTool=BuiltinTool, ToolDefinition=ToolDefinition, ToolParamDefinition=ToolParamDefinition)
stub("llama_models.llama3.prompt_templates.base", PromptTemplate=PromptTemplate, PromptTemplateGeneratorBase=object)
stub("llama_models.datatypes", BuiltinTool=BuiltinTool, RecursiveType=Any, ToolCall=object, ToolPromptFormat=ToolPromptFormat)
prompts = load("system_prompts.py", "llama_models.llama3.prompt_templates")
utils = load("tool_utils.py", "llama_models.llama3").ToolUtils


def definition(tool):
    required = tool["parameters"].get("required", [])
    parameters = {k: ToolParamDefinition(p["type"], p.get("description"), k in required, p.get("default"))
                  for k, p in tool["parameters"]["properties"].items()}
    return ToolDefinition(tool["name"], tool["description"], parameters)


def meta_call(one, style):
    known = types.SimpleNamespace(tool_name=one["name"], arguments=one["arguments"])
    text = utils.encode_tool_call(known, style)
    builtin = one["name"] in ("brave_search", "wolfram_alpha", "code_interpreter")
    tagged = builtin or style == ToolPromptFormat.json  # the documents' form of a call (models/llama3_1/prompt_format.md)
    return ("<|python_tag|>" if tagged else "") + text, tagged


def meta(style, messages, tools=(), builtin_tools=(), date="26 July 2024", generation_prompt=True):
    """The assembly of llama-stack's prompt adapter and ChatFormat.encode_dialog_prompt."""
    def frame(role, content, end="<|eot_id|>"):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}{end}"

    own = messages[0]["content"] if messages[0]["role"] == "system" else None
    rest = messages[1:] if own is not None else messages
    custom = [definition(t) for t in tools]
    text = "<|begin_of_text|>"
    content = ""
    if style == ToolPromptFormat.python_list:
        if custom:
            content += prompts.PythonListCustomToolGenerator().gen(custom).render() + "\n"
        content += own or ""
    else:
        if tools or builtin_tools:
            content += Template(builtin_source).render(builtin_tools=builtin_tools, custom_tools=custom) + "\n"
        if date:
            content += f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n"
        if own:
            content += "\n" + own
    content = content.strip("\n")
    if content:
        text += frame("system", content)
    if custom and style == ToolPromptFormat.json:
        text += frame("user", prompts.JsonCustomToolGenerator().gen(custom).render())
    if custom and style == ToolPromptFormat.function_tag:
        text += frame("user", prompts.FunctionTagCustomToolGenerator().gen(custom).render())
    for message in rest:
        if "tool_calls" in message:
            said, tagged = meta_call(message["tool_calls"][0], style)
            text += frame("assistant", message["content"] + said, "<|eom_id|>" if tagged else "<|eot_id|>")
        else:
            text += frame("ipython" if message["role"] == "tool" else message["role"], message["content"])
    if generation_prompt:
        text += "<|start_header_id|>assistant<|end_header_id|>\n\n"
    return text


builtin_source = prompts.BuiltinToolGenerator().gen([ToolDefinition("custom")]).template.lstrip("\n")

# ---- the cases -------------------------------------------------------------------------------------------------------------------

cases = []


def add(name, render, messages, tools=(), builtin_tools=(), date="", generation_prompt=True, tools_in_system=False):
    expected = render(messages, tools=tools, builtin_tools=builtin_tools, date=date, generation_prompt=generation_prompt,
                      **({"tools_in_system": True} if tools_in_system else {}))
    cases.append({"format": name, "messages": messages, "tools": list(tools), "builtin_tools": list(builtin_tools), "date": date,
                  "generation_prompt": generation_prompt, "tools_in_system": tools_in_system, "expected": expected})


def hf(name):
    return lambda messages, **options: hugging_face(name, messages, **options)


for name in ("llama3.1", "llama3.2"):
    add(name, hf(name), CHAT, date="26 Jul 2024")
    add(name, hf(name), CHAT[1:], date="01 Jan 2025", generation_prompt=False)
    add(name, hf(name), TOOLS, tools=[WEATHER, ODD], date="26 Jul 2024")
    add(name, hf(name), TOOLS, tools=[WEATHER, ODD], date="26 Jul 2024", tools_in_system=True)
add("llama3.1", hf("llama3.1"), CHAT, builtin_tools=["brave_search", "code_interpreter", "wolfram_alpha"], date="26 Jul 2024")
add("llama3.1", hf("llama3.1"), [user("q"), call("brave_search", query="gold price"), result("1900"), answer("1900")],
    tools=[SONGS], builtin_tools=["brave_search"], date="26 Jul 2024")
add("llama3.1", hf("llama3.1"), [user("q"), call("trending_songs", n=10)], tools=[SONGS], builtin_tools=["code_interpreter"], date="26 Jul 2024")
add("llama3", hf("llama3"), CHAT)
add("llama3", hf("llama3"), CHAT[1:])
add("llama2", hf("llama2"), CHAT)
add("llama2", hf("llama2"), CHAT[1:])
add("llama2", hf("llama2"), CHAT[:3])

for name, style in (("llama3.1-meta", ToolPromptFormat.json), ("llama3.1-function", ToolPromptFormat.function_tag)):
    def render(messages, style=style, **options):
        return meta(style, messages, **options)

    add(name, render, CHAT, date="26 July 2024")
    add(name, render, CHAT[1:])
    add(name, render, [system("You are a helpful assistant."), user("Use tools to get latest trending songs"), call("trending_songs", n=10, genre="all"),
                       result("[]")], tools=[SONGS, WEATHER], date="21 September 2024")
    add(name, render, [user("gold?"), call("brave_search", query="latest price of 1oz gold"), result("1900")],
        builtin_tools=["brave_search", "wolfram_alpha", "code_interpreter"], date="21 September 2024")
    add(name, render, [user("run"), call("code_interpreter", code="print(1)\nprint(2)"), result("completed\n[stdout]1\n2\n[/stdout]")],
        builtin_tools=["code_interpreter"], date="21 September 2024")


def pythonic(messages, **options):
    return meta(ToolPromptFormat.python_list, messages, **options)


add("llama3.2-pythonic", pythonic, [user("What is the weather in SF?"), call("get_weather", city="San Francisco", metric="celsius"), result("20")],
    tools=[WEATHER])
add("llama3.2-pythonic", pythonic, [system("Be kind."), user("Songs?"), call("trending_songs", n=10), result("none")], tools=[SONGS])
add("llama3.2-pythonic", pythonic, [system("Be kind."), user("Hi")])

with open(out, "w", encoding="utf-8") as file:
    for case in cases:
        file.write(json.dumps(case, ensure_ascii=False) + "\n")
print(len(cases), "prompts")
