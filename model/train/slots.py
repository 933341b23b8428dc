"""What stands in a template's slots: names, numbers, dates, addresses, codes, as they are said.

In: a template's text with `{slot}`s and a random generator. Out: the text with words in their place. Knows no template
file. Invariant: a filler is lower-case words; digits are read out, letters stand alone.
"""

import random
import re
from collections.abc import Callable, Sequence

from model.train import words
from model.train.spoken import cardinal, clock, digits, money, ordinal, year

Filler = Callable[[random.Random], str]
# Slots whose filler is a thing that "a" may stand before.
THINGS = frozenset(
    "product item animal job vehicle place symptom colour size part app relative dish drink".split()  # noqa: SIM905
)


def fill(template: str, rng: random.Random) -> str:
    """Put a filler into every slot; "a" before a vowel becomes "an". KeyError for unknown slots."""

    def put(match: re.Match[str]) -> str:
        article, name = match[1] or "", match[2]
        filler = SLOTS[name](rng)
        if article and name in THINGS and filler[0] in "aeiou":
            article = "an "
        return article + filler

    return re.sub(r"(\ba )?\{(\w+)\}", put, template)


def _digits(count: int) -> Filler:
    def draw(rng: random.Random) -> str:
        zero = "oh" if rng.random() < 0.15 else "zero"
        return digits("".join(rng.choice("0123456789") for _ in range(count)), zero)

    return draw


def _pick(choices: Sequence[str]) -> Filler:
    return lambda rng: rng.choice(choices)


def _number(low: int, high: int) -> Filler:
    return lambda rng: cardinal(rng.randint(low, high))


def _phone(rng: random.Random) -> str:
    return _digits(rng.choice((7, 10)))(rng)


def _money(rng: random.Random) -> str:
    whole = rng.choice((rng.randint(1, 99), rng.randint(1, 999), rng.randint(1, 99) * 10))
    return money(whole * 100 + rng.choice((0, rng.randint(1, 99), 99, 50)))


def _clock(rng: random.Random) -> str:
    return clock(rng.randint(0, 23), rng.choice((0, 0, 15, 30, 45, rng.randint(1, 59))))


def _ordinal_day(rng: random.Random) -> str:
    return ordinal(rng.randint(1, 31))


def _date(rng: random.Random) -> str:
    return f"{rng.choice(words.MONTHS)} {_ordinal_day(rng)}"


def _duration(rng: random.Random) -> str:
    unit, most = rng.choice(
        (("second", 59), ("minute", 59), ("hour", 24), ("day", 30), ("week", 8), ("month", 12))
    )
    value = rng.randint(1, most)
    return f"{cardinal(value)} {unit}{'' if value == 1 else 's'}"


def _code(rng: random.Random) -> str:
    return " ".join(rng.choice(words.LETTERS) if rng.random() < 0.4 else _digits(1)(rng) for _ in range(6))


def _letters(rng: random.Random) -> str:
    return " ".join(rng.choice(words.LETTERS) for _ in range(rng.randint(3, 7)))


def _phonetic(rng: random.Random) -> str:
    return " ".join(rng.choice(words.PHONETIC) for _ in range(rng.randint(2, 5)))


def _full(rng: random.Random) -> str:
    return f"{rng.choice(words.FIRST)} {rng.choice(words.LAST)}"


def _email(rng: random.Random) -> str:
    joint = rng.choice(("dot", "underscore", "dash"))
    user = (
        _username(rng)
        if rng.random() < 0.4
        else f"{rng.choice(words.FIRST)} {joint} {rng.choice(words.LAST)}"
    )
    return f"{user} at {_domain(rng)} dot {rng.choice(('com', 'org', 'net'))}"


def _username(rng: random.Random) -> str:
    number = rng.choice(
        (cardinal(rng.randint(1, 99)), digits(f"{rng.randint(0, 999):03}"), year(rng.randint(1950, 2015)))
    )
    head = rng.choice((rng.choice(words.FIRST), rng.choice(words.LAST), rng.choice(words.WORDS)))
    return rng.choice(
        (f"{head} {number}", f"{head} {rng.choice(words.WORDS)}", f"{rng.choice(words.LETTERS)} {head}")
    )


def _domain(rng: random.Random) -> str:
    return rng.choice(words.DOMAINS if rng.random() < 0.5 else words.WORDS)


def _website(rng: random.Random) -> str:
    start = rng.choice(("", "", "w w w dot "))
    pair = f"{rng.choice(words.WORDS)} {rng.choice(words.WORDS)}"
    return f"{start}{rng.choice((_domain(rng), pair))} dot {rng.choice(('com', 'com', 'org', 'net', 'gov'))}"


def _company(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.3:
        return rng.choice(words.COMPANIES)
    if draw < 0.45:
        return f"{rng.choice(words.LAST)} and {rng.choice((*words.LAST, 'sons', 'company', 'partners'))}"
    head = words.LAST if draw < 0.6 else words.COMPANY_FIRST
    return f"{rng.choice(head)} {rng.choice(words.COMPANY_LAST)}"


def _street(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(words.STREETS)
    return f"{rng.choice(words.STREET_NAMES)} {rng.choice(words.STREET_KINDS)}"


def _address(rng: random.Random) -> str:
    number = rng.choice((cardinal(rng.randint(1, 999)), digits(str(rng.randint(100, 99999))), _pairs(rng)))
    flat = f" apartment {_seat(rng)}" if rng.random() < 0.25 else ""
    return f"{number} {_street(rng)}{flat} {rng.choice(words.CITIES)} {rng.choice(words.STATES)}"


def _pairs(rng: random.Random) -> str:
    """A number of four digits as two of two: "twelve forty one"."""
    return year(rng.randint(1101, 9999))


def _seat(rng: random.Random) -> str:
    return f"{cardinal(rng.randint(1, 60))} {rng.choice('abcdefgh')}"


def _flight(rng: random.Random) -> str:
    return f"flight {rng.choice((digits(str(rng.randint(100, 9999))), _pairs(rng), cardinal(rng.randint(10, 999))))}"


def _plate(rng: random.Random) -> str:
    letters, figures = " ".join(rng.choices(words.LETTERS, k=3)), _digits(rng.choice((3, 4)))(rng)
    return rng.choice((f"{letters} {figures}", f"{figures} {letters}"))


def _spelled_last(rng: random.Random) -> str:
    return _spell(rng.choice(words.LAST))


def _name_spelled(rng: random.Random) -> str:
    name = rng.choice((rng.choice(words.LAST), rng.choice(words.FIRST)))
    return f"{name} {_spell(name)}"


def _spell(name: str) -> str:
    return " ".join(letter for letter in name if letter.isalpha())


def _born(rng: random.Random) -> str:
    return f"{_date(rng)} {year(rng.randint(1925, 2022))}"


def _whole_money(rng: random.Random) -> str:
    return money(
        100 * rng.choice((rng.randint(2, 99), rng.randint(1, 99) * 10, rng.randint(1, 90) * 100, 25, 50))
    )


def _large_money(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return f"{cardinal(rng.randint(1, 9))} point {digits(str(rng.randint(1, 9)))} million dollars"
    return f"{cardinal(rng.choice((rng.randint(2, 99), rng.randint(2, 99) * 10)))} thousand dollars"


def _interest(rng: random.Random) -> str:
    return f"{cardinal(rng.randint(0, 19))} point {digits(str(rng.randint(1, 99)))} percent"


def _temperature(rng: random.Random) -> str:
    part = f" point {digits(str(rng.randint(1, 9)))}" if rng.random() < 0.4 else ""
    return f"{cardinal(rng.randint(20, 105))}{part} degrees"


def _version(rng: random.Random) -> str:
    return f"version {cardinal(rng.randint(1, 24))} point {cardinal(rng.randint(0, 15))}"


SLOTS: dict[str, Filler] = {
    "first": _pick(words.FIRST),
    "last": _pick(words.LAST),
    "full": _full,
    "spelled": _letters,
    "letterseq": _letters,
    "phoneticseq": _phonetic,
    "company": _company,
    "dept": _pick(words.DEPARTMENTS),
    "product": _pick(words.PRODUCTS),
    "service": _pick(words.SERVICES),
    "city": _pick(words.CITIES),
    "street": _street,
    "month": _pick(words.MONTHS),
    "weekday": _pick(words.WEEKDAYS),
    "dayword": _pick(("today", "tomorrow", "tonight", "this afternoon", "next week")),
    "ivraction": _pick(words.IVR_ACTIONS),
    "asterword": _pick(words.PBX_WORDS),
    "asternoun": _pick(words.PBX_NOUNS),
    "asterverb": _pick(words.PBX_VERBS),
    "asterstate": _pick(words.PBX_STATES),
    "digit": _digits(1),
    "digits3": _digits(3),
    "digits4": _digits(4),
    "digits5": _digits(5),
    "digits6": _digits(6),
    "digits8": _digits(8),
    "digits16": _digits(16),
    "number1": _number(2, 12),
    "number2": _number(1, 99),
    "number3": _number(1, 999),
    "number4": _number(0, 9999),
    "ordinal": _ordinal_day,
    "percent": lambda rng: f"{cardinal(rng.randint(1, 100))} percent",
    "phone": _phone,
    "money": _money,
    "clock": _clock,
    "date": _date,
    "year": lambda rng: year(rng.randint(1940, 2029)),
    "duration": _duration,
    "code": _code,
    "email": _email,
    "address": _address,
    "age": _number(2, 95),
    "animal": _pick(words.ANIMALS),
    "app": _pick(words.APPS),
    "bodypart": _pick(words.BODY_PARTS),
    "colour": _pick(words.COLOURS),
    "country": _pick(words.COUNTRIES),
    "currency": _pick(words.CURRENCIES),
    "daypart": _pick(words.DAY_PARTS),
    "digits7": _digits(7),
    "digits9": _digits(9),
    "dish": _pick(words.DISHES),
    "dob": _born,
    "domain": _domain,
    "drink": _pick(words.DRINKS),
    "drug": _pick(words.DRUGS),
    "error": _pick(words.ERRORS),
    "filler": _pick(words.FILLERS),
    "flight": _flight,
    "food": _pick(words.FOODS),
    "holiday": _pick(words.HOLIDAYS),
    "hotel": _pick(words.HOTELS),
    "item": _pick(words.ITEMS),
    "job": _pick(words.JOBS),
    "language": _pick(words.LANGUAGES),
    "letter": _pick(words.LETTERS),
    "money0": _whole_money,
    "moneyk": _large_money,
    "namespelled": _name_spelled,
    "part": _pick(words.PARTS),
    "phonetic": _pick(words.PHONETIC),
    "place": _pick(words.PLACES),
    "plate": _plate,
    "rate": _interest,
    "reading": lambda rng: rng.choice((_digits(5)(rng), cardinal(rng.randint(1000, 99999)))),
    "relative": _pick(words.RELATIVES),
    "season": _pick(words.SEASONS),
    "seat": _seat,
    "size": _pick(words.SIZES),
    "spelledlast": _spelled_last,
    "state": _pick(words.STATES),
    "symptom": _pick(words.SYMPTOMS),
    "temp": _temperature,
    "username": _username,
    "vehicle": _pick(words.VEHICLES),
    "version": _version,
    "website": _website,
    "word": _pick(words.WORDS),
}
