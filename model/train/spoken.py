"""Numbers, times and money as they are spoken.

In: integers, or a text with digits. Out: lower-case words. Knows English only, and no audio.
Invariant: `plain` returns lower-case words of a-z and apostrophes, so transcripts never hold a digit.
"""
# ruff: noqa: SIM905

import re
import unicodedata

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))


def cardinal(value: int) -> str:
    """123 → "one hundred twenty three". Raises ValueError for negative numbers."""
    if value < 0:
        raise ValueError(f"{value} is negative")
    if value < 20:
        return ONES[value]
    if value < 100:
        return TENS[value // 10] + (f" {ONES[value % 10]}" if value % 10 else "")
    for scale, name in SCALES:
        if value >= scale:
            rest = value % scale
            return f"{cardinal(value // scale)} {name}" + (f" {cardinal(rest)}" if rest else "")
    raise AssertionError("unreachable")


def ordinal(value: int) -> str:
    """21 → "twenty first"."""
    head, _, last = cardinal(value).rpartition(" ")
    if last in ORDINALS:
        word = ORDINALS[last]
    elif last.endswith("y"):
        word = last[:-1] + "ieth"
    else:
        word = last + "th"
    return f"{head} {word}".strip()


def digits(text: str, zero: str = "zero") -> str:
    """ "405" → "four zero five"; anything that is no digit is skipped."""
    return " ".join(zero if c == "0" else ONES[int(c)] for c in text if c.isdigit())


def year(value: int) -> str:
    """1984 → "nineteen eighty four", 2007 → "two thousand seven"."""
    if 2000 <= value < 2010 or value % 1000 == 0:
        return cardinal(value)
    head, rest = divmod(value, 100)
    if rest == 0:
        return f"{cardinal(head)} hundred"
    return f"{cardinal(head)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def money(cents: int) -> str:
    """1250 → "twelve dollars and fifty cents"."""
    whole, rest = divmod(cents, 100)
    words = f"{cardinal(whole)} dollar{'' if whole == 1 else 's'}"
    return words + (f" and {cardinal(rest)} cent{'' if rest == 1 else 's'}" if rest else "")


def clock(hour: int, minute: int) -> str:
    """15:05 → "three oh five p m"."""
    half = "a m" if hour < 12 else "p m"
    words = cardinal((hour - 1) % 12 + 1)
    if minute:
        words += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    return f"{words} {half}"


def plain(text: str) -> str:
    """Any English text as it is trained on: lower case, digits read as words, no punctuation but apostrophes."""
    ascii_text = unicodedata.normalize("NFKD", text.lower().replace("’", "'").replace("‘", "'"))
    ascii_text = ascii_text.encode("ascii", "ignore").decode()
    ascii_text = re.sub(r"(?<=\d),(?=\d{3})", "", ascii_text)
    ascii_text = re.sub(r"\$(\d+)\.(\d\d)\b", lambda m: money(int(m[1]) * 100 + int(m[2])), ascii_text)
    ascii_text = re.sub(r"\$(\d+)", lambda m: money(int(m[1]) * 100), ascii_text)
    ascii_text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1])), ascii_text)
    ascii_text = re.sub(r"(\d+)\.(\d+)", lambda m: f"{cardinal(int(m[1]))} point {digits(m[2])}", ascii_text)
    ascii_text = ascii_text.replace("%", " percent").replace("&", " and ").replace("@", " at ")
    ascii_text = re.sub(r"\d+", lambda m: f" {_number(m[0])} ", ascii_text)
    ascii_text = re.sub(r"[^a-z' ]+", " ", ascii_text)
    said = (word.strip("'") if word.strip("'") in ("", "s") else word for word in ascii_text.split())
    return " ".join(word for word in said if word)


def _number(text: str) -> str:
    """A number in running text: years and round numbers as such, long ones digit by digit."""
    value = int(text)
    if (text.startswith("0") and len(text) > 1) or len(text) > 9:
        return digits(text)
    return year(value) if 1100 <= value < 2000 else cardinal(value)
