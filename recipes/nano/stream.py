# SPDX-License-Identifier: Apache-2.0
"""Random choices that are the same on every version of Python and on every machine, and the rule that keeps evaluation questions out
of the training data. Python's `random` promises neither across versions for anything but random()."""
import hashlib
import unicodedata

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_OPERATORS = "+-*/%×÷−°="
HELD_OUT_SHARE = 8  # one in so many contents is for evaluation only


def stable_hash(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def normalised(text):
    """Case, punctuation and spaces do not make another question. Marks stay: vowels of Hindi and Thai are marks."""
    kept = [c if unicodedata.category(c)[0] in "LMN" or c in _OPERATORS else " " for c in text.casefold()]
    return " ".join("".join(kept).split())


def is_held_out(content):
    """Whether a question may be asked in the evaluation only. `content` is the text of a question, or for questions about numbers
    what the tool is asked, so that a held-out sum is unseen in every language and wording."""
    return stable_hash("held out:" + normalised(content)) % HELD_OUT_SHARE == 0


class Stream:
    """SplitMix64 (Steele, Lea & Flood, 2014) started at a hash of the seed and the names: every row of every file has its own."""

    def __init__(self, seed, *names):
        self._state = stable_hash("\0".join(str(part) for part in (seed, *names)))

    def bits(self):
        self._state = (self._state + _GOLDEN) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, count):
        return self.bits() * count >> 64

    def between(self, low, high):
        """Both ends belong to it."""
        return low + self.below(high - low + 1)

    def choice(self, options):
        return options[self.below(len(options))]

    def percent(self, chance):
        return self.below(100) < chance

    def weighted(self, table):
        """table: [(weight, value)] with whole weights."""
        at = self.below(sum(weight for weight, _ in table))
        for weight, value in table:
            at -= weight
            if at < 0:
                return value
        raise AssertionError("unreachable")

    def shuffled(self, options):
        result = list(options)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
