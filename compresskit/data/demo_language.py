"""The words and sentence patterns of the demo set: invented people and towns, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words(
    """
    Ada Berta Carla Dora Edith Frida Greta Hanna Ines Judith Karin Lena Marta Nora Olga Paula Rosa
    Sofia Tilda Ulla Vera Wilma Yvonne Zelda
    """
)

MEN = _words(
    """
    Anton Boris Casper Dirk Emil Felix Georg Hugo Ivar Jonas Karl Leon Martin Nils Oscar Peter Ralf
    Simon Theo Urban Viktor Walter Yannick Zeno
    """
)

SURNAMES = _words(
    """
    Abelsen Arndal Barlow Bergan Brandt Calder Corvin Dahlin Denholm Ekdal Elster Farrow Fenwick
    Feld Garland Gresham Hadley Halvor Ibsen Irwin Jarvis Jessen Kepler Kirkby Landau Lomax Marlow
    Mercer Nansen Norling Oakley Orwin Pascal Penrose Quist Ramsey Renner Salter Selwyn Tarrant
    Thorne Ullman Unwin Velsen Vickers Wagner Winslow Yardley Yates Zander
    """
)

TOWNS = _words(
    """
    Aldmere Ashby Belmont Brenwick Carrow Cresthill Dalby Dunmoor Elmford Eskdale Farley Fernhall
    Glenby Grimsund Harwick Holmstad Inver Istrand Jarrow Jutvik Kelby Kronsund Lorvik Lynmoor
    Marsby Midhall Norwick Nyford Oldham Orsund Penby Pelmoor Quarley Quinby Redford Rosvik Selby
    Stenhall Tarnby Torvik Ulford Umby Varby Vinstad Welby Wyndale Yarrow Zellwick
    """
)

TOWN_PREFIXES = ("Port", "New", "Upper", "East")

JOBS = (
    *_words(
        """
    architect baker carpenter dentist engineer farmer gardener judge lawyer miller nurse painter
    plumber surgeon tailor teacher weaver writer
    """
    ),
    *(
        "clock maker",
        "glass blower",
        "harbor pilot",
        "night guard",
        "opera singer",
        "piano tuner",
        "ship builder",
    ),
    *("stone mason", "tax collector", "train driver", "violin teacher", "wine merchant"),
)

EMPLOYER_NAMES = _words(
    """
    Amber Anchor Cedar Comet Crown Eagle Falcon Harbor Lantern Maple Meridian Phoenix Pioneer Raven
    Silver Summit
    """
)
EMPLOYER_KINDS = ("Bank", "Museum", "Press", "Railway", "School", "Theater")

MONTHS = _words(
    """
    January February March April May June July August September October November December
    """
)

THINGS = _words("boats books clocks cows hats horses lamps sheep stamps violins")

RIVERS = _words(
    """
    Ansel Brisk Corran Dove Erne Fallow Gale Hollin Isen Kestle Lune Mardle Nith Orrin Pell Rill
    Sable Teme Wend Yore
    """
)

MATERIALS = _words("blue brown dark gold green plain red rich soft white")
GOODS = _words(
    """
    bread candles cheese cloth glass honey leather paper pottery rope salt tea
    """
)


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that can be told of a kind of entity, and asked.

    In the patterns, {s} is the entity, {v} the value, {a} the article before it and {thing} what is counted.
    `predicates` follow a subject; `sentences` stand on their own; `questions` hold no value.
    """

    name: str
    predicates: tuple[str, ...]
    sentences: tuple[str, ...]
    questions: tuple[str, ...]


PERSON_RELATIONS = (
    Relation(
        "job",
        ("is {a} {v}", "works as {a} {v}", "earns a living as {a} {v}"),
        ("The trade of {s} is that of {a} {v}.",),
        ("What is the job of {s}?", "What does {s} do for a living?", "What kind of work does {s} do?"),
    ),
    Relation(
        "home",
        ("lives in {v}", "has a house in {v}", "rents a flat in {v}"),
        ("{v} is the home of {s}.",),
        ("Where does {s} live?", "In which town does {s} live?", "Which town is the home of {s}?"),
    ),
    Relation(
        "born",
        ("was born on {v}", "first saw the light on {v}", "came into the world on {v}"),
        ("On {v} a child was born who became {s}.",),
        ("When was {s} born?", "On which day was {s} born?", "What is the date of birth of {s}?"),
    ),
    Relation(
        "employer",
        ("works for the {v}", "is paid by the {v}", "has a desk at the {v}"),
        ("The {v} pays the wages of {s}.",),
        ("Who employs {s}?", "For whom does {s} work?", "Who pays {s}?"),
    ),
    Relation(
        "owns",
        ("owns {v} {thing}", "has {v} {thing}", "keeps {v} {thing} at home"),
        ("As many as {v} {thing} belong to {s}.",),
        (
            "How many {thing} does {s} own?",
            "How many {thing} belong to {s}?",
            "What number of {thing} does {s} keep?",
        ),
    ),
)

TOWN_RELATIONS = (
    Relation(
        "founded",
        ("was founded in {v}", "dates from {v}", "has stood since {v}"),
        ("In {v} the first stone of {s} was laid.",),
        ("When was {s} founded?", "In which year was {s} founded?", "From which year does {s} date?"),
    ),
    Relation(
        "river",
        ("lies on the river {v}", "looks down on the river {v}", "stands by the river {v}"),
        ("The river {v} flows through {s}.",),
        ("Which river flows through {s}?", "On which river does {s} lie?", "What is the river of {s}?"),
    ),
    Relation(
        "people",
        ("has {v} people", "counts {v} people", "is home to {v} people"),
        ("In all, {v} people live in {s}.",),
        ("How many people live in {s}?", "How many people does {s} have?", "How large is {s}?"),
    ),
    Relation(
        "mayor",
        ("is led by {v}", "has {v} as mayor", "chose {v} as mayor"),
        ("The mayor of {s} is {v}.",),
        ("Who is the mayor of {s}?", "Who leads {s}?", "Whom did {s} choose as mayor?"),
    ),
    Relation(
        "goods",
        ("is known for {v}", "sells {v} far and wide", "makes {v}"),
        ("Traders come to {s} for {v}.",),
        ("What is {s} known for?", "What does {s} make?", "What do traders find in {s}?"),
    ),
)

BIRTH_YEARS = range(1920, 1980)
FOUNDING_YEARS = range(1640, 1700)
DAYS = range(1, 29)
COUNTS = range(3, 41)
THOUSANDS = range(2, 10)
HUNDREDS = range(100, 1000, 100)
