# SPDX-License-Identifier: Apache-2.0
"""What nano is asked: one Question per turn, with its answer and what an evaluation expects. Talk, facts, refusals; questions that need
a tool are in tasks.py. Whether a question is for training or evaluation is decided by its content (stream.is_held_out)."""
import functools
from dataclasses import dataclass, field
from typing import Optional

from phrases import phrases
from stream import is_held_out

TALK = ("hello", "how", "thanks", "name", "skills", "bye", "weather", "food", "clock", "human", "tongues")


@dataclass
class Question:
    language: str
    category: str
    user: str
    answer: str
    accepted: list = field(default_factory=list)  # a good answer holds one of these
    call: Optional[dict] = None  # {"name", "arguments"}: the answer needs the tool's result
    result: Optional[str] = None
    unaided: str = ""  # the answer where the tool is missing


@dataclass(frozen=True)
class Entry:
    """One thing to ask and the answers that fit, before one is drawn."""

    user: str
    answers: tuple
    accepted: tuple


def _entries(pairs):
    """Parts them by content. -> {"train": [...], "eval": [...]}"""
    result = {"train": [], "eval": []}
    for entry in pairs:
        result["eval" if is_held_out(entry.user) else "train"].append(entry)
    return result


def _ask(stream, language, category, split, table):
    entries = table[split]
    if not entries:  # a short list may have nothing held out
        return None
    entry = stream.choice(entries)
    return Question(language, category, entry.user, stream.choice(entry.answers), list(entry.accepted))


# Talk -------------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def _talk(language, topic):
    p = phrases(language)
    answers = tuple(p.lines(f"{topic}.answer"))
    return _entries(Entry(user, answers, answers) for user in p.lines(f"{topic}.user"))


def talk(stream, language, split, topic=None):
    """Returns None where this topic has nothing for the split; so do the others below."""
    return _ask(stream, language, "talk", split, _talk(language, topic or stream.choice(TALK)))


# Facts ------------------------------------------------------------------------------------------------------------------------


def _filled(p, users, answers, accepted, **slots):
    """What the question says itself (a Thai sky is named after its colour) proves nothing: then a whole answer is wanted."""
    sentences = tuple(p.options(answers, **slots))
    for user in p.options(users, **slots):
        yield Entry(user, sentences, sentences if any(word in user for word in accepted) else accepted)


def _colours(p):
    for row in p.rows("colour.items"):
        yield from _filled(p, "colour.user", "colour.answer", (row[1],), a=row[0], b=row[1], c=row[-1])


def _opposites(p):
    for a, b in p.rows("opposite.items"):
        yield from _filled(p, "opposite.user", "opposite.answer", (b,), a=a, b=b)
        yield from _filled(p, "opposite.user", "opposite.answer", (a,), a=b, b=a)


def _neighbours(p):
    days = [row[0] for row in p.rows("day.items")]
    for ring in (days, p.months()):
        for i, item in enumerate(ring):
            following = ring[(i + 1) % len(ring)]
            yield from _filled(p, "after.user", "after.answer", (following,), a=item, b=following)
            yield from _filled(p, "before.user", "before.answer", (item,), a=following, b=item)
    for number in range(1, 31):
        yield from _filled(p, "after.user", "after.answer", (str(number + 1),), a=number, b=number + 1)
        yield from _filled(p, "before.user", "before.answer", (str(number - 1),), a=number, b=number - 1)
    yield from _filled(p, "week.user", "week.answer", (", ".join(p.weekdays()),), list=", ".join(p.weekdays()))
    yield from _filled(p, "year.user", "year.answer", (", ".join(p.months()),), list=", ".join(p.months()))


def _words(p):
    for number, word in p.number_words().items():
        yield from _filled(p, "word.user", "word.answer", (word,), a=number, b=word)


def _counting(p):
    for first in range(1, 21):
        for last in range(first + 3, first + 11):
            text = ", ".join(str(n) for n in range(first, last + 1))
            for user in p.options("count.user", a=first, b=last):
                yield Entry(user, (text + ".",), (text,))


def _capitals(p):
    for country, capital in p.rows("capital.items"):
        yield from _filled(p, "capital.user", "capital.answer", (capital,), a=country, b=capital)
        yield from _filled(p, "country.user", "country.answer", (country,), a=country, b=capital)


FACTS = {"colours": _colours, "opposites": _opposites, "neighbours": _neighbours, "words": _words, "counting": _counting,
         "capitals": _capitals}


@functools.lru_cache(maxsize=None)
def fact_entries(language, topic):
    return _entries(FACTS[topic](phrases(language)))


def fact(stream, language, split, topic=None):
    return _ask(stream, language, "facts", split, fact_entries(language, topic or stream.choice(tuple(FACTS))))


# Refusals ---------------------------------------------------------------------------------------------------------------------


def _action_slots(action):
    """Hindi bends the infinitive before a postposition: {o} is करने where {a} is करना."""
    return {"a": action, "o": action[:-1] + "े" if action.endswith("ना") else action}


@functools.lru_cache(maxsize=None)
def refusal_entries(language):
    p = phrases(language)
    refusal = p.lines("refusal")[0]
    entries = []
    for category, action in p.rows("acts"):
        offers = p.lines("offer." + category if p.has("offer." + category) else "offer")
        answers = tuple(f"{refusal} {offer}" for offer in offers)
        entries += [Entry(user, answers, (refusal,)) for user in p.options("frames", **_action_slots(action))]
    return _entries(entries)


def refusal(stream, language, split):
    return _ask(stream, language, "refusal", split, refusal_entries(language))


@functools.lru_cache(maxsize=None)
def _harmless(language):
    p = phrases(language)
    return _entries(Entry(user, (answer,), (answer,)) for action, answer in p.rows("harmless.items")
                    for user in p.options("frames", **_action_slots(action)))


def harmless(stream, language, split):
    return _ask(stream, language, "harmless", split, _harmless(language))
