"""Plain-text helpers that text agents share: decoding, sentences, words. Standard library only, no language data."""

from __future__ import annotations

import codecs
import re

WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

# A line shorter than this share of the text's width may be the last of its block.
SHORT_LINE_SHARE = 0.75

# A stop after one of these does not end a sentence. Lower case, without the dot.
_ABBREVIATIONS = """mr mrs ms dr prof sr jr st vs etc e.g i.e cf al fig figs no nos vol pp p approx ca inc ltd co corp
    dept est jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k z.b d.h bzw usw nr ggf tel"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
# Latin ends need a blank after them, CJK ends do not; closing quotes and brackets belong to the sentence.
ENDED = re.compile("[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019\u00bb)\\]\u300d\u300f\uff09]*$")
BOUNDARY = re.compile(
    "([.!?\u2026]+[\"'\u201d\u2019\u00bb)\\]]*)(\\s+)|([\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f\uff09]*)"
)

_STOP_WORDS = """a about above after again against all also am an and any are as at be because been before being below
    between both but by can could did do does doing down during each few for from further had has have having he her
    here hers him his how i if in into is it its itself just many may me might more most much my no nor not now of off
    on once only or other our out over own per same she should so some such than that the their theirs them then there
    these they this those through to too under until up upon us very was we were what when where which while who whom
    whose why will with would you your yours
    der die das den dem des ein eine einer eines einem einen und oder aber nicht ist sind war waren wird werden mit
    von zu im in auf für als auch an bei nach aus sich es er sie wir ihr ich
    le la les un une des du de et ou mais est sont été dans pour par sur avec que qui ce cette ces il elle ils elles
    el los las una unos unas y o pero es son fue con por para del al como se su sus lo más"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
# A sentence that begins with one of these says little without the sentence before it.
BACK_REFERENCE = re.compile(r"(?i)(it|its|they|their|them|this|that|these|those|he|his|she|her|both)\b")


def decode_text(data: bytes) -> tuple[str, str]:
    """The text and the encoding it was read with; never fails (Windows-1252 or Latin-1 as the last resort)."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(name, errors="replace"), name
    for name in (_wide_guess(data), "utf-8", "cp1252"):
        try:
            return data.decode(name), name
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1"


def _wide_guess(data: bytes) -> str:
    """UTF-16 without a mark shows as a zero in every second byte of Latin text; anything else is UTF-8 first."""
    sample = data[:2000]
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    many, few = len(sample) // 4, len(sample) // 40
    if second > many and first <= few:
        return "utf-16-le"
    if first > many and second <= few:
        return "utf-16-be"
    return "utf-8"


def looks_binary(data: bytes) -> bool:
    """Whether the bytes are no text in any encoding we read."""
    sample = data[:4000]
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _wide_guess(sample) != "utf-8":
        return False
    control = sum(1 for byte in sample if byte < 32 and byte not in (9, 10, 12, 13, 27))
    return control * 50 > len(sample)


def paragraphs(text: str) -> list[str]:
    """Blocks of running text, with line breaks inside them joined (hyphenated words too).

    A blank line or form feed ends a block; so does a line that stops well short of the text's width before a line that
    starts anew, which is how headings, list items and table cells look in the text of a PDF.
    """
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n").split("\n")]
    short_of = _text_width(lines) * SHORT_LINE_SHARE
    found: list[str] = []
    block: list[str] = []
    for line in lines:
        begins_anew = bool(line) and (line[0].isupper() or not line[0].isalpha())
        if block and (not line or (begins_anew and len(block[-1]) < short_of)):
            found.append(_joined(block))
            block = []
        if line:
            block.append(line)
    if block:
        found.append(_joined(block))
    return found


def _text_width(lines: list[str]) -> int:
    """How long lines of running text are: nine of ten filled lines are shorter."""
    lengths = sorted(len(line) for line in lines if line)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _joined(block: list[str]) -> str:
    joined = re.sub(r"(?<=[^\W\d_])-\n(?=[a-z\u00df-\u00ff])", "", "\n".join(block))
    return re.sub(r"\s+", " ", joined)


def sentences(text: str) -> list[str]:
    """The sentences of a text in order. Decimals, initials and common abbreviations do not split."""
    found: list[str] = []
    for paragraph in paragraphs(text):
        start = 0
        for match in BOUNDARY.finditer(paragraph):
            if match[3] is None and not _ends_sentence(paragraph, start, match):
                continue
            found.append(paragraph[start : match.end()].strip())
            start = match.end()
        found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def is_ended(sentence: str) -> bool:
    """Whether it ends with a stop, as running text does and headings and table cells do not."""
    return ENDED.search(sentence) is not None


def _ends_sentence(paragraph: str, start: int, match: re.Match[str]) -> bool:
    following = paragraph[match.end() : match.end() + 1]
    if following.islower():
        return False
    if not match[1].startswith(".") or match[1].startswith(".."):
        return True
    before = paragraph[start : match.start()].rpartition(" ")[2].lower().lstrip("(\"'“[")
    if before in ABBREVIATIONS:
        # "no." and "co." also end sentences; a number after them says that they did not.
        return before in {"no", "co", "al", "etc"} and not following.isdigit() and following.isupper()
    return not (len(before) == 1 and before.isalpha() and following.isupper())


def words(text: str) -> list[str]:
    """Lower-case words; scripts written without spaces give one word per pair of characters."""
    found: list[str] = []
    for match in WORD.finditer(text.lower()):
        word = match[0]
        if IDEOGRAPH.search(word):
            found.extend(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        else:
            found.append(word)
    return found


def stem(word: str) -> str:
    """A light stem: plural and common English endings go, so that ``turbines`` meets ``turbine``."""
    word = re.sub(r"['\u2019]s?$", "", word)
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if not word.endswith(ending) or (word.endswith("ss") and ending == "s"):
            continue
        trimmed = word[: -len(ending)] + replacement
        if len(trimmed) >= 3:
            return re.sub(r"([b-df-hj-km-np-rtv-z])\1$", r"\1", trimmed).removesuffix("e")
    return word.removesuffix("e") if len(word) > 4 else word


def content_words(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]
