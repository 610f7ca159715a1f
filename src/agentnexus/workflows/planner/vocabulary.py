"""The planner's vocabulary: how people name actions, figures, courtesies and what nobody here does. English; data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentnexus.hiring.text import stem


def word_set(text: str) -> frozenset[str]:
    """A set written as one line of words."""
    return frozenset(text.split())


WORD = re.compile(r"[a-z][a-z0-9]*|[0-9]+")
LETTERS = re.compile(r"[^\W\d_]+")
QUESTION_MARKS = ("?", "\uff1f", "\u061f")  # ours, the full-width one, the Arabic one
URL = re.compile(r"https?://[^\s<>\"']{4,2000}")
PASTED = re.compile(r"(?::|\n)\s*(?=\S)")
QUESTION_WORDS = (
    "who", "what", "when", "where", "which", "why", "how", "whose", "does", "did", "is", "are", "was", "were",
    "can", "could", "has", "have", "do", "should", "will",
)  # fmt: skip
POLITE = re.compile(
    r"^(?:please|kindly|hi|hello|hey|ok|okay|so|well|now|also|then|and|next|finally|first|after that|afterwards|just"
    r"|basically|quickly|maybe|perhaps|thanks"
    r"|(?:i|we)(?:'d| would)? (?:just |really |only |also )?(?:like|love|want|need|have)"
    r"(?: (?:you|somebody|someone))?(?: to)?"
    r"(?: (?:know|learn|hear|see|find out|understand)(?=\s+(?:who|what|when|where|which|why|how|whether|if)\b))?"
    r"|i am looking for|i'm looking for|looking for"
    r"|it(?:'d| would) be (?:great|nice|good|helpful|lovely|useful)"
    r" (?:to|if (?:you|i|we|somebody|someone) (?:could|would))"
    r"|(?:can|could|would|will) (?:you|somebody|someone|anybody|anyone)(?: tell (?:me|us))?|have (?:somebody|someone)"
    r"|let me know|help me(?: to)?|be so kind (?:as to|and)|your (?:task|job)(?: is)?(?: to)?)[,:\s]+",
    re.IGNORECASE,
)
# A question inside a statement: ``my lawyer wants to know whether …``.
INDIRECT = re.compile(
    r"\b(?:know|learn|wonder|wondering|curious|unsure|not sure|unclear|understand|recall|remember|figure out|find out"
    r"|ask|asks|asked|asking|tell me|tell us|check|see|says?|clarify|confirm"
    r"|state|determine|verify|identify|establish|explain|find)\b[^.?!;]{0,24}?"
    r"\b((?:at what|in which|for how|who|whom|whose|what|when|where|which|why|how|whether|if)\b.+)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Concept:
    """An action: `ways` people name it (several words match as a phrase), `stems` by which catalogues name it."""

    name: str
    ways: tuple[str, ...]
    stems: frozenset[str]


CONCEPTS = (
    Concept(
        "summarize",
        (
            "summarize", "summarise", "summary", "summaries", "summarized", "summarised", "sum up", "tl;dr", "tldr",
            "gist", "overview", "digest", "condense", "shorten", "boil down", "key points", "key takeaways",
            "takeaways", "highlights", "main points", "main ideas", "recap", "synopsis", "abstract of", "brief me",
            "briefing", "in short", "important points", "important things", "important parts",
            "what matters", "most important", "essence", "key sentences", "short version",
            "shorter version", "in a nutshell", "nutshell", "bottom line", "main arguments", "main message",
            "core message", "cut down", "trim down", "make it short", "make it shorter", "make it a short one",
            "distil", "distill", "key messages", "key findings", "essentials", "the upshot", "in brief", "cliff notes",
        ),
        frozenset({"summar", "digest", "abstract"}),
    ),
    Concept(
        "extract",
        (
            "extract", "extracting", "extraction", "extracted", "pull out", "pull the", "text of", "get the text",
            "to text", "to plain text", "read out", "all tables", "the tables", "metadata", "full text",
            "raw text", "tables from", "text from", "plain text", "form fields", "table of contents",
        ),
        frozenset({"extract", "read"}),
    ),
    Concept(
        "analyze",
        (
            "analyze", "analyse", "analysis", "analyzing", "analysing", "chart", "charts", "plot", "graph", "visualize",
            "visualise", "statistics", "stats", "outliers", "outlier", "correlation", "correlations", "correlate",
            "trend", "trends", "pivot", "distribution", "group by", "explore", "profile", "crunch", "describe the data",
            "anomalies", "histogram", "breakdown", "break down", "missing values", "duplicates", "correlated",
            "diagram", "diagrams", "histograms", "bar chart", "line chart",
            "pie chart", "scatter plot", "pivot table", "crosstab", "tally",
        ),
        frozenset({"analyz", "analys", "analysi", "statist", "chart"}),
    ),
    Concept(
        "question",
        (
            "answer", "find out", "tell me", "look up", "according to", "check whether", "check if", "search for",
            "find where", "cite", "citations", "quote the passage", "i wonder", "tell us", "look for",
        ),
        frozenset({"answ", "quest", "ask", "qa"}),
    ),
)  # fmt: skip
QUESTION = next(concept for concept in CONCEPTS if concept.name == "question")
SUMMARIZE = next(concept for concept in CONCEPTS if concept.name == "summarize")
EXTRACT = next(concept for concept in CONCEPTS if concept.name == "extract")
ANALYZE = next(concept for concept in CONCEPTS if concept.name == "analyze")
LONG_WAYS = tuple(way for concept in CONCEPTS for way in concept.ways if way.isalpha() and len(way) >= 7)
TYPO_MIN, TYPO_MAX = 6, 20
NO_TYPOS = word_set("analyst")
# Words that ask for arithmetic over rows: they point at tables when there are any.
TABULAR = word_set(
    "most least highest lowest average mean median total totals sum count per max min maximum minimum largest "
    "smallest biggest percentage growth grew monthly yearly quarterly"
)
# How often is a group-by beside a table, and an ordinary adjective beside a document: ``the monthly report``.
PERIODICAL = word_set("daily weekly monthly quarterly yearly annual annually")
FIGURES = re.compile(
    r"\b(?:per|by|for each|for every)\s+(?:[a-z]+\s+and\s+)?[a-z]+|\bhow (?:many|much)\b|\bover time\b"
    r"|\b(?:best|worst|top|slowest|fastest)[- ](?:selling|performing|earning|paid|rated)\b"
    r"|\b(?:each|every) (?:day|week|month|quarter|year)\b|\btop \d+\b",
    re.IGNORECASE,
)
MAKING = word_set(
    "write compose draft design generate paint build code program invent fix repair translate record sing book order"
)
# Looking something up without a question mark: only where there is something to look into.
SEEKING = re.compile(
    r"^(?:list|name|search|find|identify|locate|look|state|mention|spot|determine|verify|confirm|clarify|explain)\b",
    re.I,
)
SENTENCES = re.compile(r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten) sentences\b", re.IGNORECASE)
TAKING = re.compile(
    r"^(?:grab|fetch|collect|dump|copy|lift|liberate|take|give|gather|save|keep|just)\b[^.?!;:]{0,40}\b"
    r"(?:tables?|text|metadata|forms?)\b",
    re.IGNORECASE,
)
# A fact that is asked for by its name: ``the name of the supervisor``.
FACT = re.compile(
    r"^(?:(?:and|also)\s+)?(?:the|his|her|its|their)\s+(?:\w+\s+)?(?:names?|dates?|address(?:es)?|prices?|amounts?"
    r"|numbers?|deadlines?|authors?|titles?|places?|durations?|owners?|costs?|reasons?|causes?|terms|conditions)"
    r" (?:of|for|in|at)\b",
    re.IGNORECASE,
)
SEEING = re.compile(
    r"^(?:see|check|verify|determine|confirm|state|identify|establish|find|say|name|explain)\b", re.IGNORECASE
)
RELATIVE = re.compile(r"(?:who|whom|whose|which|where)\b", re.IGNORECASE)
ARROW = re.compile(r"\s*(?:->|=>|\u2192)\s*")
PARTED = re.compile(
    r"\b(boil|sum|pull|break|read|look|cut|trim|whittle|strip)\s+(?:it|them|this|that|these|those|all)\s+(down|up|out)\b"
)
# What a task works on says nothing about what to do with it.
OBJECTS = frozenset(
    stem(word)
    for word in word_set(
        "look looking process handle review inspect examine open go through have take attached here thing things "
        "what which who when where why how tell know about "
        "pdf pdfs csv xlsx xls excel html page pages web webpage website site file files document documents "
        "doc docs report reports spreadsheet spreadsheets sheet table data dataset text article articles "
        "paper papers attached attachment attachments upload uploaded content contents following below above "
        "one each every all both two three four five these those this that it them its their our my your "
        "material materials input inputs sentence sentences word words point points paragraph with without "
        "using use from into the of"
    )
)
IMPERATIVES = word_set(
    "give make write create produce draw show get list find prepare translate send compare tell read convert"
)
# What somebody else would have to do with a result: half the work is not what was asked for.
FOREIGN = word_set(
    "translate send publish upload submit forward delete remove buy deploy install encrypt tweet sing proofread "
    "rewrite rephrase paraphrase transcribe reformat schedule remind notify phone hire pay transfer rename compress "
    "zip watermark redact anonymise anonymize annotate caption narrate dub animate refactor debug"
)
FOREIGN_OR_NOUN = word_set(
    "email mail post print book order sign call draft edit text merge split"
)  # ``email it``, not ``email list``
POINTING = word_set("it them this that these those the me him her us everything all my")
STATING = word_set(
    "here this that these those the my our we i it its there they he she you thanks thank sorry fyi because since as"
)
REMARK = re.compile(
    r"^(?:cite|quote|give citations|with citations|include (?:page|cit)|thank|be (?:brief|short|precise))", re.I
)
WISHED = re.compile(r"^an?\s+(?:(?:short|brief|quick|small|simple|nice|concise|one[- ]\w+|bar|line)\s+)*", re.I)
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
JOINT = re.compile(r"\s*(?:,?\s+and then|,?\s+then|;|,?\s+and also|,?\s+plus|,\s+and|\s+and|,)\s+", re.IGNORECASE)
