"""Where a text says a number in words, in the languages that are translated most. Tells that, not which number.

What is recognised too often costs little: an invented number is overlooked. What is not recognised makes a good answer
fail. So stems stand for whole families of words. Where a language joins words, a stem may stand within one.
"""

from __future__ import annotations

import re

# Of ten and more, of parts and of multiples: what an answer may write in two digits or more, or with decimals.
_LARGE_WITHIN = (
    # English, German, Dutch, Scandinavian
    "eleven|twel[fv]e?|teen|twent[yi]|thirt[yi]|fort[yi]|fift[yi]|sixt[yi]|sevent[yi]|eight[yi]|ninet[yi]|hundred|thousand"
    "|illion|centen|zehn|zwölf|(?:zwan|vier|fünf|sech|sieb|acht|neun)zig|dreiß|dreiss|hundert|tausend|illiard|jahrzehnt"
    "|twaalf|(?:win|der|eer|ijf|zes|even|ach|egen)tig|honderd|duizend|tretti|førti|hundra|hundre|tusen|tusind|århundr"
    # Slavic, Greek, Finnish, Hungarian, Turkish
    "|дцат|сорок|десят|сот|двест|трист|тысяч|тисяч|лион|лиард|полов|четверт|дюжин|полдень|полночь|naśc|naści|dzieśc"
    "|dzieści|dziest|dziesi|(?:ęć|ść|dem)set|tysi|połow|náct|(?:dva|ři|ty)cet|desát|deset|tisíc|polov|stolet|naest|stotin"
    "|tisuć|hiljad|δέκα|δεκα|είκοσι|ντα\\b|εκατ|χίλι|χιλι|μισ|kymmen|toista|sata|sada|tuhat|tuhan|puol|tíz|tizen|húsz|huszon"
    "|harminc|negyven|ötven|hatvan|hetven|nyolcvan|kilencven|száz|ezer|fél|yirmi|otuz|kırk|altmış|yetmiş|seksen|doksan|yüz"
    "|buçuk|düzine|mươi|mười|trăm|nghìn|ngàn|triệu"
    # Hebrew, Arabic, Persian, Hindi, Korean, Chinese and Japanese
    "|עשר|שלושים|ארבעים|חמישים|שישים|שבעים|שמונים|תשעים|מאה|אלף|מאות|אלפים|חצי|عشر|ون\\b|ين\\b|مائة|مئ|ألف|آلاف|مليون|نصف|بیست"
    "|سی\\b|چهل|پنجاه|شصت|هفتاد|هشتاد|نود|صد|هزار|दस|ग्यारह|बारह|रह\\b|ीस|पचास|साठ|सत्तर|अस्सी|नब्बे|सौ|हज़ार|हजार|लाख|करोड़|आधा"
    "|십|백|천|만|억|스물|스무|서른|마흔|쉰|예순|일흔|여든|아흔|열|반|[〇零一二三四五六七八九十百千万萬億亿兆两兩廿卅]{2,}|[十百千万萬億亿兆半双雙倍]"
    "|世纪|世紀|[½⅓⅔¼¾⅛⅜⅝⅞]"
)
_LARGE_AT_START = (
    # English, German, Dutch, Scandinavian
    "ten(?:th|s)?\\b|dozen|half|halves|quarter|third|doubl|twice|tripl|centur|decad|scores?\\b|noon|midnight|fortnight|elf\\b"
    "|dutzend|halb|hälfte|viertel|drittel|doppel|jahrhundert|mittag|mitternacht|tien\\b|dertien|veertien|vijftien|zestien"
    "|zeventien|achttien|negentien|dozijn|helft|kwart|eeuw|tolv|tret?ton|tretten|fjorton|fjorten|femton|femten|sexton"
    "|seksten|sjutton|sytten|arton|atten\\b|nitton|nitten|tio\\b|tyve|tjue|tredive|fyrre|halvtreds|tres\\b|firs\\b|ellev|elva\\b"
    "|hälft|halv"
    # French, Spanish, Portuguese, Italian, Catalan, Romanian
    "|dix|onze|onzièm|douz|treiz|quatorz|quinz|seiz|vingt|trent|quarant|cinquant|soixant|cents?\\b|centain|centième|mille?\\b"
    "|milliers?\\b|moitié|demi|quart|tiers\\b|siècle|décenn|midi\\b|minuit|diez|once\\b|doce|trece|catorc|quince|dieci|veint"
    "|treint|cuarent|sesent|setent|ochent|novent|cien|\\w{0,6}cient[oa]s|mitad|medi[oa]s?\\b|cuarto|tercio|dobl|siglo|década"
    "|dez(?:e\\w*)?\\b|doz|trez|vint|cinquent|sessent|oitent|cem\\b|metade|mei[oa]s?\\b|quinhent|duzent|trezent|dobr|século"
    "|undic|dodic|tredic|quattordic|quindic|sedic|vent[iu]|ottant|settant|sessant|duecent|trecent|metà|mezz|secol|zece"
    "|\\w{0,6}sprezece|\\w{0,5}zeci|sut[aăe]\\b|jum[aă]t|mii\\b"
    # Slavic, Turkish, Indonesian, Vietnamese
    "|сто\\b|ста\\b|полт|пол|век|sto\\b|stu\\b|dwieście|trzysta|czterysta|wiek|pół|tuzin|půl|elli\\b|bin\\b|yarı"
    "|on (?:bir|iki|üç|dört|beş|altı|yedi|sekiz|dokuz)|(?:se|\\w{2,5} )?(?:puluh|belas|ratus|ribu|juta)\\b|setengah|nửa"
)
_SMALL = (
    r"two|three|four|five|six|seven|eight|nine|ten|second|zwei|drei|vier|fünf|sechs|sieben|acht|neun|deux|trois"
    r"|quatre|cinq|sept|huit|neuf|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|due|tre|quattro|cinque|sei|sette|otto|nove"
    r"|dois|duas|três|quatro|sete|oito|twee|drie|vijf|zes|zeven|negen|две|два|три|четыре|пять|шесть|семь|восемь|девять"
    r"|dwa|dwie|trzy|cztery|pięć|sześć|siedem|osiem|dziewięć|två|fyra|fem|sju|åtta|nio|to|fire|syv|otte|ni|åtte"
)
_DIGIT = (
    r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|null|eins|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zéro|un"
    r"|deux|trois|quatre|cinq|sept|huit|neuf|cero|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|ноль|один|два|три)"
)
_ROMAN = (
    r"(?-i:\b(?=[IVXLCDM]{2})M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?:e|er|ème|th|st|nd|rd)?\b)"
)
_ERA = "令和|平成|昭和|大正|明治|民國|民国"
_LARGE = re.compile(
    rf"\b{_DIGIT}[\s-]{_DIGIT}\b|{_ROMAN}|(?<!per )\b(?:{_LARGE_AT_START})|{_LARGE_WITHIN}|{_ERA}", re.IGNORECASE
)
_ANY = re.compile(rf"\b(?:{_SMALL})\b|[一二三四五六七八九]|{_LARGE.pattern}", re.IGNORECASE)


def count_large(text: str) -> int:
    """Return how many numbers of two digits or more a text may say in words, at most."""
    return sum(1 for _ in _LARGE.finditer(text))


def has_any(text: str) -> bool:
    """Tell whether a text may say a number above one in words."""
    return _ANY.search(text) is not None
