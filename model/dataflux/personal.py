"""Whether a transcript may hold what belongs to a person: numbers, addresses, names, dates, secrets.

In: an English text as the models write it (plain words, or with figures and marks). Out: what was found, by kind. Knows
no database. Invariant: it errs on the side of leaving out; a text in another language, or none, is never clear.

These are patterns, not understanding. A name that nobody announces passes, and so does a number that was not recognised
as one: that is why the neighbours of a window count too (`workers.harvest`), and why audio is taken with consent only.
"""

from __future__ import annotations

import re
from typing import Final

LANGUAGES: Final = frozenset({"en"})
_NUMBER = (
    r"(?:\d[\d.,:/-]*|zero|oh|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    r"sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|"
    r"first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|double|triple)"
)
_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_KINDS: Final = {
    "number": rf"\b{_NUMBER}(?:[\s-]+(?:and\s+)?{_NUMBER}){{2,}}\b|\d(?:[\s.()/-]?\d){{3,}}",
    "mail": r"@|\bat\b(?:\s+\w+){1,4}\s+dot\s+\w+|\bdot\s+(?:com|net|org|co|edu|gov|info|io|uk|de)\b|\bwww\b|https?:",
    "spelling": r"\b[a-z](?:[\s.-]+[a-z]\b){2,}|\b[a-z]\s+(?:as\s+in|for)\s+\w+|\bspell(?:ed|ing|s)?\b",
    "name": (
        r"\bmy\s+(?:\w+\s+){0,2}name\b|\bname\s+is\b|\bnames?\b|\bi\s*(?:am|'m)\s+called\b|\bspeaking\s+with\b|"
        r"\b(?:mr|mrs|ms|miss|mister|missus|doctor|dr|sir|madam|professor)\b\.?\s+[a-z]|"
        r"\bthis\s+is\s+(?!a\b|an\b|the\b|not\b|your\b|our\b|my\b|that\b|it\b|what\b|how\b|why\b|because\b)\w+"
    ),
    "date": rf"\b{_MONTH}\b\.?\s+(?:the\s+)?{_NUMBER}\b|\b{_NUMBER}\s+(?:of\s+)?{_MONTH}\b|\bbirth(?:day)?\b|\bborn\b",
    "address": (
        r"\b(?:street|avenue|road|lane|boulevard|drive|apartment|flat\s+\w+|suite)\b|\b(?:zip|post|postal)\s*code\b|"
        r"\bpostcode\b|\baddress\b|\bi\s+live\b"
    ),
    "secret": (
        r"\b(?:account|card|policy|insurance|passport|licen[cs]e|phone|telephone|mobile|cell|customer|member(?:ship)?|"
        r"reference|order|security|social|sort|routing|pin|tax|contract)\s+(?:number|code|security|id)\b|\biban\b|"
        r"\bpass(?:word|code|phrase)\b|\bpin\b|\bmy\s+number\b|\bsecurity\b|\bexpir(?:y|es|ation)\b"
    ),
}
_PATTERNS: Final = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in _KINDS.items()}
_CAPITALS: Final = re.compile(r"(?<![.!?])(?<!^)\s+(?!I\b)[A-Z][a-z]+")


def found(text: str) -> list[str]:
    """The kinds of personal data that this text may hold; empty when nothing was found."""
    kinds = [kind for kind, pattern in _PATTERNS.items() if pattern.search(text)]
    # Where capitals mean something, one within a sentence is a name more often than not.
    if "name" not in kinds and _CAPITALS.search(text) and not text.isupper():
        kinds.append("name")
    return kinds


def clear(text: str, language: str | None) -> bool:
    """Whether nothing personal is found in a text that can be checked."""
    return bool(text.strip()) and language in LANGUAGES and not found(text)
