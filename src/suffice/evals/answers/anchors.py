"""Where a text says that its answer follows: "the answer is", "####", "答案：", <answer>.

The stronger kind comes first, and of one kind the last. Takes time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_OPENED = ("<answer>", "<final_answer>")
# So much behind an anchor is looked at.
_WINDOW = 1000
_HASHES = re.compile(r"^[ \t>*]*#{4}(?!#)[ \t]*(?=\S)", re.MULTILINE)
_FENCE = re.compile(r"```[^\n`]*\n.*?(?:```|\Z)", re.DOTALL)

# In lower case. Words that are part of others ("answer" of "the answer") are found by the shorter.
_FINAL = (
    "final answer", "final result", "endgültige antwort", "respuesta final", "réponse finale",
    "risposta finale", "resposta final", "окончательный ответ", "最终答案", "最終答案",
    "最終的な答え", "최종 답", "최종 정답", "jawaban akhir", "nihai cevap",
)  # fmt: skip
_ANSWER = (
    "answer", "ans", "antwort", "respuesta", "réponse", "reponse", "risposta", "resposta",
    "antwoord", "svar", "vastaus", "odpowiedź", "odpowiedz", "odpověď", "odpoveď", "ответ",
    "відповідь", "отговор", "одговор", "odgovor", "răspuns", "válasz", "απάντηση", "cevap",
    "yanıt", "jawaban", "đáp án", "câu trả lời", "lösung", "solución", "soluzione", "solução",
    "答案", "答え", "答：", "答:", "正解", "解答", "回答", "正确选项", "正確選項",
    "故选", "故選", "应选", "應選", "因此选", "所以选", "所以選", "选择", "選擇", "选", "選",
    "선택", "정답", "답은", "답:", "답：", "الإجابة", "الاجابة", "الجواب", "پاسخ", "جواب",
    "תשובה", "उत्तर", "উত্তর", "คำตอบ", "பதில்",
)  # fmt: skip
# Weaker: what stands behind them is often, not always, the last word.
_RESULT = (
    "result", "solution", "conclusion", "ergebnis", "resultado", "résultat", "risultato", "结果",
    "結果", "결과", "результат", "output",
)  # fmt: skip
KINDS = (_FINAL, _ANSWER, _RESULT)

_COPULA = (
    r"is|are|was|be|equals|comes to|ist|sind|lautet|wäre|es|son|sería|est|sont|è|é|são|seria|"
    r"(?<=odpowiedź )to|jest|je|är|er|on|este|adalah|ialah|là|είναι|это|это вариант|является|"
    r"هي|هو|है|হল"
)
# From the word to the answer: "(in dollars) is therefore", "to question 3 is:", "is option".
_FILLER = (
    r"\s(?:to|for|of|in|on|here|then|thus|therefore|that|which|must|should|would|will|could|has|we|"
    r"you|i|correcta|correct[ao]|richtige|finale?|bonne|esatta|giusta|đúng|yang|benar)\b"
    r"[^.!?\n:=]{0,60}?"
)
_NAMED = (
    r"\s(?:choice|option|letter|key|here|number|correct(?:a|o|e|as|os|es)?|corrett[aeio]|"
    r"corret[ao]s?|exactes?|justes?|(?:to|for) [^.!?\n:=]{1,40})"
)
_LINK = re.compile(
    r"(?:\(s\)|\(es\))?[\"'*_`\]]*"
    r"(?:\s{0,2}\([^()\n]{0,60}\))?"
    rf"(?:(?:{_FILLER}|{_NAMED})?[\"'*_`]*,?\s(?:{_COPULA})(?!\w)[\"'*_`]*\s{{0,2}}[:：]?|"
    rf"(?:{_NAMED})?[\"'*_`]*\s{{0,3}}[:：=→]\s{{0,2}}[\"'*_`]*|"
    r"\s?[-–—]{1,2}>?\s|"
    r"\s?(?:应该是|應該是|应为|應為|是|为|為|选|選|はおそらく|は|が|이|은|는|คือ|：|:)[:：]?|"
    r"[\"'*_`.]*(?=\s*\n)|(?=\s*[(\[*]{1,3}[A-Za-z][)\]*])|(?=\s[\"'(]?[A-K](?![\w]))|"
    r"(?<=[选選択擇择])|(?<=[:：]))",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"(?:s|et|en|ul|i|ı|ы|(?<=ответ)ом|is)(?![^\W_])")
_BOUNDED = re.compile(r"[^\W_]", re.ASCII)


def told(text: str) -> str:
    """The text without what is not said to the reader: thoughts, programs (if more is left)."""
    said = text.rpartition("</think>")[2] if "</think>" in text else text
    if "```" in said:
        rest = _FENCE.sub("\n", said)
        if any(character.isalnum() for character in rest):
            return rest
    return said


def anchored(text: str) -> Iterator[str]:
    """What follows each place at which the text says that its answer comes, best place first."""
    low = _lower(text)
    tagged = _tagged(text, low)
    if tagged is not None:
        yield tagged
    hashes = [match.end() for match in _HASHES.finditer(text)] if "####" in text else []
    if hashes:
        yield text[hashes[-1] : hashes[-1] + _WINDOW]
    for words in KINDS:
        # Hardly any of the words is in a text: looking first spares a generator for each.
        said = [word for word in words if word in low]
        for place in sorted({place for word in said for place in _ends(low, word)}, reverse=True):
            link = _LINK.match(text, place)
            if link is not None:
                yield text[link.end() : link.end() + _WINDOW]


def _tagged(text: str, low: str) -> str | None:
    """Inside the last <answer>…</answer>."""
    end = max(low.rfind("</answer>"), low.rfind("</final_answer>"))
    for opened in _OPENED:
        start = low.rfind(opened, 0, end) if end > 0 else -1
        if start >= 0:
            return text[start + len(opened) : end]
    return None


def _ends(low: str, word: str) -> Iterator[int]:
    """Where the last places of a word end; more than a few are a degenerate text."""
    place = len(low)
    for _ in range(8):
        place = low.rfind(word, 0, place)
        if place < 0:
            return
        end = place + len(word)
        before = low[place - 1 : place]
        latin = _BOUNDED.match(word[0]) is not None
        if not (latin and _BOUNDED.match(before)):
            end += _suffix(low, end)
            if not (latin and _BOUNDED.match(low[end : end + 1])):
                yield end


def _suffix(low: str, end: int) -> int:
    """Length of an ending of the word: answers, svaret, cevabı."""
    match = _SUFFIX.match(low, end)
    return len(match[0]) if match is not None else 0


def _lower(text: str) -> str:
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(one if len(one := character.lower()) == 1 else character for character in text)
