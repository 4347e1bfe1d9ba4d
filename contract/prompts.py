"""How a typed text is read: which characters separate phrases, which show nothing, and which are the same.

Services, training and the laboratory read prompts by these rules alone, before any tokenizer. Knows characters; neither
the vocabulary nor tokens.

    separators   the commas of all scripts, and line breaks. A line break beside a comma or at an end separates nothing.
    nothing      what shows nothing is left out: zero-width characters, directions, soft hyphens, variation selectors.
                 Other control characters and the blanks of all scripts are blanks.
    the same     Unicode's NFKC, as the tokenizers of multilingual models do it: full-width letters are letters,
                 ligatures are their letters. Hyphens of all kinds are "-", typographic apostrophes are "'".

A text of printable ASCII characters is read as it is.
"""

import re
import unicodedata

COMMAS = (
    "\N{ARMENIAN COMMA}\N{ARABIC COMMA}\N{NKO COMMA}\N{MYANMAR SIGN LITTLE SECTION}\N{ETHIOPIC COMMA}"
    "\N{MONGOLIAN COMMA}\N{MONGOLIAN MANCHU COMMA}\N{TURNED COMMA}\N{RAISED COMMA}\N{REVERSED COMMA}"
    "\N{DOUBLE STACKED COMMA}\N{MEDIEVAL COMMA}\N{IDEOGRAPHIC COMMA}\N{LISU PUNCTUATION COMMA}\N{VAI COMMA}"
    "\N{BAMUM COMMA}\N{NEWA COMMA}\N{NEWA DOUBLE COMMA}\N{MEDEFAIDRIN COMMA}\N{SIGNWRITING COMMA}"
)  # NFKC makes the full-width, small and vertical ones of these
BREAKS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"  # as str.splitlines has them
_HYPHENS = "\u2010\u2011\u2012\u2013\u2212"  # hyphen, non-breaking, figure dash, en dash, minus
_APOSTROPHES = "\u2018\u2019\u02bc"
_BRAILLE_BLANK = "\u2800"
_CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
_PLAIN = str.maketrans(
    dict.fromkeys((*_CONTROLS, _BRAILLE_BLANK), " ")
    | dict.fromkeys(BREAKS, "\n")
    | dict.fromkeys(COMMAS, ",")
    | dict.fromkeys(_HYPHENS, "-")
    | dict.fromkeys(_APOSTROPHES, "'")
)
# Unicode's Default_Ignorable_Code_Point, and the annotation marks.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_WITHOUT_SPACES = {"BOPOMOFO", "CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI"}  # scripts
_BETWEEN_WORDS = re.compile(r"(?<=[^\s,])\s+(?=[^\s,])")


def readable(text: str) -> str:
    """The text that models read: what separates phrases is "," and what shows nothing is gone."""
    if text.isascii() and text.isprintable():
        return text
    plain = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).translate(_PLAIN)
    return _BETWEEN_WORDS.sub(lambda blanks: "," if "\n" in blanks[0] else blanks[0], plain).replace("\n", " ")


def phrases_of(prompt: str) -> list[str]:
    """A prompt's phrases as they are read, without blanks around them and empty ones."""
    return [phrase for part in readable(prompt).split(",") if (phrase := " ".join(part.split()))]


def folded(phrase: str) -> str:
    """As phrases are compared: without regard to case and blanks."""
    return " ".join(readable(readable(phrase).casefold()).split())


def has_word_with(phrase: str, prefix: str) -> bool:
    """Whether a word of the phrase begins with the prefix; both folded.

    Words begin after a blank or a hyphen. In a script without spaces between words, such as Chinese, each character may
    begin one.
    """
    return any(
        phrase.startswith(prefix, at) and (at == 0 or phrase[at - 1] in " -" or _needs_no_space(phrase[at]))
        for at in range(len(phrase))
    )


def _needs_no_space(character: str) -> bool:
    return unicodedata.name(character, "").partition(" ")[0] in _WITHOUT_SPACES
