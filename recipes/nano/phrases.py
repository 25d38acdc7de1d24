# SPDX-License-Identifier: Apache-2.0
"""The phrases of one language, from languages/<code>.txt and <code>.talk.txt, and how their slots are filled. What the slots mean is told in README.md."""
import datetime
import functools
import re
from pathlib import Path

LANGUAGES = ("en", "de", "fr", "it", "pt", "hi", "es", "th")
_FOLDER = Path(__file__).resolve().parent / "languages"


class _Slots(dict):
    """{A} is {a} with a capital at its head."""

    def __missing__(self, key):
        value = self[key[0].lower() + key[1:]]
        return value[:1].upper() + value[1:]


class Phrases:
    def __init__(self, language, text):
        self.language, self._sections = language, {}
        lines = None
        for line in text.splitlines():
            if line.startswith("[") and line.endswith("]"):
                lines = self._sections.setdefault(line[1:-1], [])
            elif line and not line.startswith("#"):
                lines.append(line)
        rows = [line.split(" => ") for line in self._sections.get("contractions", [])]
        self._contractions = [(re.compile(pattern), replacement) for pattern, replacement in rows]

    def has(self, section):
        return section in self._sections

    def sections(self):
        return list(self._sections)

    def all_lines(self):
        return [line for lines in self._sections.values() for line in lines]

    def lines(self, section):
        return self._sections[section]

    def rows(self, section):
        return [line.split("|") for line in self._sections[section]]

    def fill(self, template, **slots):
        text = template.format_map(_Slots({key: str(value) for key, value in slots.items()}))
        for pattern, replacement in self._contractions:
            text = pattern.sub(replacement, text)
        return text

    def options(self, section, **slots):
        """Every line of a section, filled."""
        return [self.fill(line, **slots) for line in self.lines(section)]

    def unit(self, code):
        for row in self.rows("units"):
            if row[0] == code:
                return row[1], row[2] if len(row) > 2 else "m"
        raise KeyError(code)

    def conversion_slots(self, value, source, target):
        (from_name, _), (to_name, gender) = self.unit(source), self.unit(target)
        how_many = self.lines("how_many")
        elided = to_name[0] in "aeiouhéèê"  # French: d'onces, d'heures
        return {"v": value, "from": from_name, "to": to_name, "of_to": ("d'" if elided else "de ") + to_name,
                "how_many": how_many[-1] if gender == "f" else how_many[0]}

    def date(self, date):
        """As people write it; some languages write the first of a month their own way, in a second line."""
        forms = self.lines("date")
        return self.fill(forms[-1] if date.day == 1 else forms[0], day=date.day, month=self.months()[date.month - 1], year=date.year)

    def months(self):
        return self.lines("month.items")

    def weekdays(self):
        """Without an article where a second column says so, Monday first."""
        return [row[-1] for row in self.rows("day.items")]

    def weekday(self, english):
        return self.weekdays()[("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday").index(english)]

    def number_words(self):
        """number -> word: 0 to 20, then the tens."""
        return dict(zip([*range(21), *range(30, 101, 10)], self.lines("numbers")))


@functools.lru_cache(maxsize=None)
def phrases(language):
    return Phrases(language, "".join((_FOLDER / f"{language}{part}.txt").read_text(encoding="utf-8") for part in ("", ".talk")))


def random_date(stream):
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=stream.below(365 * 90))
