"""Checks: what is wrong with an answer is found, what only looks like it is not, whatever the text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.errors import UsageError
from llmpar.tasks.checks import CHECKS, DEFAULT_CHECKS, find_fault, parse_checks


def fault(check: str, source: str, answer: str, finish_reason: str = "stop") -> str | None:
    return find_fault(frozenset({check}), source, answer, finish_reason)


# Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("length,preamble", {*DEFAULT_CHECKS, "length", "preamble"}),
        (" echo , empty ", {*DEFAULT_CHECKS, "echo"}),
        ("none", set()),
        ("none,length", {"length"}),
        ("length,none", {"length"}),
        (",".join(CHECKS), set(CHECKS)),
    ],
)
def test_names_add_to_the_default_unless_there_is_none(text: str, expected: set[str]) -> None:
    assert parse_checks(text, DEFAULT_CHECKS) == expected


@pytest.mark.parametrize("text", ["lenght", "length,", "all", "Echo", "length;echo"])
def test_an_unknown_name_is_told_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match="empty, echo, length, loop, preamble, refusal, ratio"):
        parse_checks(text, DEFAULT_CHECKS)


def test_only_what_was_asked_for_is_checked() -> None:
    assert find_fault(frozenset(), "Ein Satz.", "", "loop") is None
    assert find_fault(DEFAULT_CHECKS, "Ein Satz.", "Sure! Here is the translation:", "length") is None


def test_the_first_fault_in_order_is_told() -> None:
    assert find_fault(frozenset(CHECKS), "Ein Satz.", " ", "length") == "the answer is empty"
    assert find_fault(frozenset(CHECKS), "Ein Satz.", "Sure! A", "length") == "the answer reached its limit"
    assert find_fault(DEFAULT_CHECKS, "Ein Satz.", "a a a a", "loop") == "the answer repeats itself"


@pytest.mark.parametrize(("check", "reason"), [("length", "length"), ("loop", "loop")])
@pytest.mark.parametrize("finish_reason", ["stop", "length", "loop", "error"])
def test_how_an_answer_ended(check: str, reason: str, finish_reason: str) -> None:
    assert (fault(check, "x", "y", finish_reason) is not None) == (finish_reason == reason)


# Empty

BLANK = ["", " \t\r\n", "\u200b\u200d\ufeff", "\u00ad", "\u3164\u2800", "\u2028\x85", "\x00\x1b", "\ufe0f\u202e", "　"]


@pytest.mark.parametrize("answer", BLANK)
def test_nothing_to_see_is_empty(answer: str) -> None:
    assert fault("empty", "Ein Satz.", answer) == "the answer is empty"


@pytest.mark.parametrize("answer", ["0", ".", "\u0301", "👍", "\ue000", "\ufffd", "\u200ba", "中"])
def test_anything_to_see_is_not_empty(answer: str) -> None:
    assert fault("empty", "Ein Satz.", answer) is None


def test_what_cannot_be_seen_may_answer_itself() -> None:
    assert fault("empty", "\u200b\ufeff", "\u200b\ufeff") is None


# Echo


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("The cat sat on the mat.", "The cat sat on the mat."),
        ("The cat sat on the mat.", '  "the CAT sat\n on the mat" '),
        ("the café is closed", "THE CAFE\u0301 IS CLOSED!"),
        ("the ｆｕｌｌ width of it", "the full width of it"),
        ("猫がマットの上に座っていた。", "「猫がマットの上に座っていた」"),
        ("и это было хорошо", "И это было хорошо."),
        ("قال لنا هذا أمس", "قال لنا هذا أمس."),
    ],
)
def test_an_echo_is_found(source: str, answer: str) -> None:
    assert fault("echo", source, answer) == "the answer repeats its source"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("The cat sat on the mat.", "The cat sat on a mat."),
        ("Johann Sebastian Bach", "Johann Sebastian Bach"),
        ("Ludwig van Beethoven, 1770–1827", "Ludwig van Beethoven, 1770–1827"),
        ("Rio de Janeiro, Brasil", "Rio de Janeiro, Brasil"),
        ("12 345.67 / 89", "12 345.67 / 89"),
        ("OK", "OK"),
        ("no comment", "no comment"),
        ("https://example.org/all/of/this", "https://example.org/all/of/this"),
        ("北京大学", "北京大学"),
        ("...", "..."),
        ("the words in order", "in order the words"),
        ("it costs five pounds", "it costs five-pounds"),
    ],
)
def test_what_stays_itself_is_no_echo(source: str, answer: str) -> None:
    assert fault("echo", source, answer) is None


# Preambles

TALK = [
    "Sure! Here is the translation: The dog sleeps.",
    "Sure, here's the text in French: Le chien dort.",
    "sure thing! The dog sleeps.",
    "Certainly! The dog sleeps.",
    "Certainly, I can help you with that. The dog sleeps.",
    "Of course. The dog sleeps.",
    "**Sure!**\n\nThe dog sleeps.",
    "> Sure:\n\nThe dog sleeps.",
    "✅ Absolutely! The dog sleeps.",
    "Okay, here is the summary of the passage: A dog sleeps.",
    "Here is the translation:\nThe dog sleeps.",
    "Here's a concise summary of the text:\n\nA dog sleeps.",
    "Here’s the translated text : The dog sleeps.",
    "Below is the rewritten sentence:\nThe dog sleeps.",
    "I have translated the text into English: The dog sleeps.",
    "The summary is: A dog sleeps.",
    "The translation of the text is: The dog sleeps.",
    "Translation: The dog sleeps.",
    "**Translation:** The dog sleeps.",
    "French translation: Le chien dort.",
    "Translation (French): Le chien dort.",
    "Summary:\nA dog sleeps.",
    "English: The dog sleeps.",
    "In French: Le chien dort.",
    "Answer: The dog sleeps.",
    "Natürlich! Hier ist die Übersetzung: Der Hund schläft.",
    "Gerne, hier ist die Übersetzung ins Deutsche: Der Hund schläft.",
    "Hier ist eine kurze Zusammenfassung des Textes:\nEin Hund schläft.",
    "Die Übersetzung lautet: Der Hund schläft.",
    "Übersetzung: Der Hund schläft.",
    "Antwort: Der Hund schläft.",
    "Bien sûr ! Voici la traduction : Le chien dort.",
    "Voici la traduction en français :\nLe chien dort.",
    "Traduction : Le chien dort.",
    "Résumé : Un chien dort.",
    "¡Claro! Aquí está la traducción: El perro duerme.",
    "Por supuesto, aquí tienes la traducción: El perro duerme.",
    "A continuación, la traducción al español:\nEl perro duerme.",
    "Traducción: El perro duerme.",
    "Certo! Ecco la traduzione: Il cane dorme.",
    "Ecco il riassunto del testo:\nUn cane dorme.",
    "Traduzione: Il cane dorme.",
    "Claro! Aqui está a tradução: O cão dorme.",
    "Aqui está o resumo do texto:\nUm cão dorme.",
    "Tradução: O cão dorme.",
    "好的，以下是翻译：狗在睡觉。",
    "当然！狗在睡觉。",
    "以下是这段文字的翻译：\n狗在睡觉。",
    "这是摘要：狗在睡觉。",
    "译文：狗在睡觉。",
    "もちろんです！犬は眠っています。",
    "はい、以下が翻訳です：\n犬は眠っています。",
    "以下は翻訳です：\n犬は眠っています。",
    "翻訳：犬は眠っています。",
    "承知しました。犬は眠っています。",
]


@pytest.mark.parametrize("answer", TALK)
@pytest.mark.parametrize("source", ["Le petit chien brun dort.", "Собака спит."])
def test_talk_about_the_answer_is_found(source: str, answer: str) -> None:
    assert fault("preamble", source, answer) == "the answer opens with talk about itself"


@pytest.mark.parametrize("text", TALK)
def test_talk_that_the_source_has_too_is_no_fault(text: str) -> None:
    assert fault("preamble", text, text) is None


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("„Klar“, sagte er, „ich komme.“", "“Sure,” he said, “I'll come.”"),
        ("Sure, I'll be there at eight.", "Sure, I'll be there by eight o'clock."),
        ("Ja, natürlich! Komm herein.", "Of course! Come in."),
        ("Der Preis ist natürlich gestiegen.", "Of course, the price has risen."),
        ("Цена, конечно, выросла.", "Of course, the price has risen."),
        ("A hinta tietysti nousi!", "Certainly! The price rose."),
        ("Selbstverständlich.", "Of course."),
        ("Oui.", "Sure."),
        ("Le chien est sûr de lui.", "Surely the dog is sure of itself: it sleeps."),
        ("Il est certain que la pluie viendra.", "Certainly the rain will come."),
        ("Pewność jest rzadka.", "Certainty is rare: nobody has it."),
        ("Hier ist das Haus, in dem er wohnt.", "Here is the house that he lives in."),
        ("Вот список: хлеб, сыр.", "Here is the list: bread, cheese."),
        ("Übersetzung: Hans Müller", "Translation: Hans Müller"),
        ("Перевод: Иван Петров", "Translation: Ivan Petrov"),
        ("Resümee: Es regnet.", "Summary: It rains."),
        ("Dies ist die Zusammenfassung des Berichts:", "This is the summary of the report:"),
        ("La traduction est un art : elle demande du temps.", "Translation is an art: it takes time."),
        ("Er übersetzte langsam.", "He translated slowly and with care."),
        ("Antwort: 42", "Answer: 42"),
        ("Klar! Hier ist deine Übersetzung: viel Spaß.", "Sure! Here is your translation: have fun."),
        ("Aquí está el resumen: llueve.", "Here is the summary: it rains."),
        ("Q: what? A: that", "Answer: that"),
        ("回答は四十二です：", "回答：42"),
        ("Sklep był zamknięty.", "The shop was closed."),
        ("OK", "OK"),
        ("", ""),
        ("x", "Sure"),
        ("Zusammenfassend lässt sich sagen, dass es regnet.", "In summary, it can be said that it rains."),
        ("Er ist hier, und hier bleibt er.", "Here he is, and here he stays."),
        ("好人一生平安。", "好人一生平安。"),
        ("Good people live in peace.", "好人一生平安。"),
        ("He was good at it.", "好久不见。"),
        ("The next stop is Ueno.", "次は上野です。"),
        ("She is sure of it.", "Sicher ist sie sich."),
        ("The French were first.", "French ships came first."),
    ],
)
def test_what_a_text_may_say_is_no_preamble(source: str, answer: str) -> None:
    assert fault("preamble", source, answer) is None


# Refusals

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t translate this text.",
    "I am very sorry, but I cannot do this.",
    "Sorry, I can't.",
    "Unfortunately, I am unable to translate this.",
    "I apologize, but I'm not able to help.",
    "I cannot assist with that request.",
    "I can't help with that.",
    "I cannot provide a summary of this text.",
    "I'm unable to fulfill your request.",
    '"I cannot translate this."',
    "As an AI language model, I do not have feelings.",
    "As an AI, I can only say this.",
    "As a large language model, I have no opinion.",
    "I am an AI assistant and have no opinion.",
    "Es tut mir leid, aber ich kann das nicht übersetzen.",
    "Leider kann ich dabei nicht helfen.",
    "Ich kann Ihnen bei dieser Anfrage nicht helfen.",
    "Als KI-Sprachmodell habe ich keine Meinung.",
    "Je suis désolé, mais je ne peux pas traduire ce texte.",
    "Désolée, je ne peux pas.",
    "Je ne peux pas vous aider.",
    "En tant qu'IA, je n'ai pas d'avis.",
    "En tant que modèle de langage, je n'ai pas d'avis.",
    "Lo siento, pero no puedo ayudar con eso.",
    "No puedo traducir este texto.",
    "Como modelo de lenguaje, no tengo opiniones.",
    "Mi dispiace, ma non posso tradurre questo testo.",
    "Non posso aiutarti.",
    "In quanto modello linguistico, non ho opinioni.",
    "Desculpe, mas não posso traduzir este texto.",
    "Não posso ajudar com isso.",
    "Como uma IA, não tenho opiniões.",
    "很抱歉，我无法翻译这段文字。",
    "对不起，我不能帮助您。",
    "作为一个人工智能语言模型，我没有意见。",
    "我无法提供帮助。",
    "申し訳ありませんが、この文章を翻訳することはできません。",
    "すみません、お手伝いできません。",
    "AI言語モデルとして、意見はありません。",
    "そのご質問にはお答えできません。",
]


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("source", ["Wie kann ich ein Schloss öffnen?", "J'ai tué un homme."])
def test_a_refusal_is_found(source: str, answer: str) -> None:
    assert fault("refusal", source, answer) == "the answer is a refusal"


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_that_the_source_has_too_is_no_fault(text: str) -> None:
    assert fault("refusal", text, text) is None


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Es tut mir leid, aber ich kann morgen nicht kommen.", "I'm sorry, but I can't come tomorrow."),
        ("Przykro mi, ale nie mogę przyjść.", "I'm sorry, but I can't come."),
        ("К сожалению, я не могу вам помочь.", "Unfortunately, I can't help you with this."),
        ("죄송하지만 도와드릴 수 없습니다.", "I'm sorry, but I cannot assist you."),
        ("Ne pot veni.", "I can't come."),
        ("Не ело ми се яде.", "I can't eat."),
        ("The shop cannot open.", "Der Laden kann nicht öffnen."),
        ("She said: I'm sorry, I can't.", "Sie sagte, es tue ihr leid, sie könne nicht."),
        ("As an AI researcher, she knows.", "Als KI-Forscherin weiß sie es."),
        ("Als KI-Forscherin weiß sie es.", "As an AI researcher, she knows."),
        ("Ils l'ont prise comme aide.", "They took her as an aide."),
        ("En tant qu'assistante, elle aide.", "As an assistant, she helps."),
        ("Es tut mir leid.", "I'm sorry."),
        ("", ""),
    ],
)
def test_what_a_text_may_say_is_no_refusal(source: str, answer: str) -> None:
    assert fault("refusal", source, answer) is None


# Proportion


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Hello.", "Hallo. " * 30),
        ("a b c " * 100, "a b c d e " * 300),
        ("A sentence that is more than sixty letters long, even when nobody counts its spaces.", "Ein Satz."),
        ("我" * 30, "I."),
    ],
)
def test_an_answer_out_of_proportion_is_found(source: str, answer: str) -> None:
    assert "than its source" in str(fault("ratio", source, answer))


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Hi", "Guten Tag, und ein herzliches Willkommen in unserem Hause!"),
        ("NATO", "Organisation des Nordatlantikvertrags (North Atlantic Treaty Organization)"),
        (
            "我们昨天去了北京大学参观，天气非常好，大家都很高兴。" * 3,
            "We went to see Peking University yesterday. " * 6,
        ),
        ("The weather was very good yesterday, and everybody was happy about it.", "昨天天气很好，大家都很高兴。"),
        ("A short sentence, cut to a word.", "Cut."),
        ("| a |" + " " * 500 + "| b |", "| c | d |"),
        ("\n" * 500 + "Hello.", "Hallo."),
    ],
)
def test_languages_differ_in_length(source: str, answer: str) -> None:
    assert fault("ratio", source, answer) is None


# Invariants


@pytest.mark.parametrize(
    ("source", "answer", "lost"),
    [
        ("Pi is 3.14.", "Pi ist 3,15.", "3.14"),
        ("Pi is 3.14.", "Pi ist eine Zahl.", "3.14"),
        ("It cost 1,234.50 euros.", "Es kostete 1.243,50 Euro.", "1,234.50"),
        ("Take 500 mg.", "Nehmen Sie 50 mg.", "500"),
        ("0.5 l", "5 l", "0.5"),
        ("In 1990 and in 2000", "In den Jahren 1990", "2000"),
        ("from 100 to 100", "von 100", "100"),
        ("10% off", "100% Rabatt", "10"),
        ("Mail bob@example.org or al@example.org.", "Schreiben Sie bob@example.org.", "al@example.org"),
        ("See https://example.org/a?b=1.", "Siehe https://example.org/a?b=2.", "https://example.org/a?b=1"),
        ("Run `ls -l` now.", "Führen Sie jetzt „ls -l“ aus.", "`ls -l`"),
        ("Hello {name}!", "Hallo {Name}!", "{name}"),
        ("Hello {{ user.name }}!", "Hallo!", "{{ user.name }}"),
        ("%s of %d files", "%s Dateien", "%d"),
        ("%(count)d files", "%(Anzahl)d Dateien", "%(count)d"),
        ("Set $HOME and ${PATH}.", "Setzen Sie $HOME.", "${PATH}"),
        ("a <b>bold</b> word", "ein <b>fettes Wort", "</b>"),
        ("100 and {x}", "{y}", "100"),
        ("`" + "x" * 100 + "`", "", "`" + "x" * 59 + "…"),
    ],
)
def test_what_an_answer_lost_is_named(source: str, answer: str, lost: str) -> None:
    assert fault("invariants", source, answer) == f"the answer lost {lost}"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("1,234.5 m", "1.234,5 m"),
        ("1,234.5 m", "1\u202f234,5 m"),
        ("1234 km", "1,234 km"),
        ("12 345", "12’345"),
        ("12,34,567 rupees", "1.234.567 Rupien"),
        ("It is 1,234.50.", "إنه ١٬٢٣٤٫٥٠."),
        ("2024年１２３４人", "1,234 people in 2024"),
        ("10% more", "10 % mehr"),
        ("50% more", "٥٠٪"),
        ("three of 9 cats, 2 dogs and 12 birds", "drei von neun Katzen, zwei Hunde und zwölf Vögel"),
        ("the 2nd, the 42nd, the 150th", "der 2., der 42., der 150."),
        ("the 20th century", "le XXe siècle"),
        ("3/4/2024", "4.3.2024"),
        ("am 03.04.2024", "on April 3, 2024"),
        ("am 24.12. um 17.30 Uhr", "on December 24 at 17:30"),
        ("5:45 pm", "17.45 Uhr"),
        ("at 11 pm", "um 23 Uhr"),
        ("alle 12.45", "at 12:45"),
        ("in the 1990s", "in den 1990er Jahren"),
        ("1, 2, 300", "300, 2, 1"),
        ("10 million people", "1000万人"),
        ("1.5 million people", "150万人"),
        ("3000万元", "30 million yuan"),
        ("25,000 Euro", "25 tausend Euro"),
        ("version 1.2.33 of 192.168.0.1", "192.168.0.1 in Version 1.2.33"),
        ("See https://example.org/a.", "(https://example.org/a)"),
        ("请访问https://example.org。谢谢", "Visit https://example.org, thanks"),
        ("写信到a.b@example.org吧", "Write to <a.b@example.org>."),
        ("100 % der Fälle, 50%ige", "100% of the cases, 50%"),
        ('<a href="https://x.org" title="The dog">x</a><BR/>', '<a href="https://x.org" title="Der Hund">x</a><br/>'),
        ("mv <source> <target>", "mv <Quelle> <Ziel>"),
        ("if a < b and c > d", "wenn a < b und c > d"),
        ("{0} of {0}, ${HOME}, %5.2f", "%5.2f von {0}, ${HOME}, {0}"),
        ("costs $5 or $50", "kostet 5 $ oder 50 $"),
        ("no numbers", ""),
        ("", "100"),
    ],
)
def test_what_translators_do_loses_nothing(source: str, answer: str) -> None:
    assert fault("invariants", source, answer) is None


@pytest.mark.parametrize(
    ("source", "answer", "invented"),
    [
        ("The letter of 3 October came.", "La lettre du 14 novembre 2023 est arrivée.", "2023"),
        ("The letter of 3 October came.", "La lettre du 14 novembre est arrivée.", "14"),
        ("£1,250 was paid on 1 October.", "La rente de 1250 est payée le 1er octobre après 100 visiteurs.", "100"),
        ("Please call after 5 p.m.", "Appelez après 5h12.", "5h12"),
        ("Please call after 5 p.m.", "Bitte rufen Sie nach 17:23 an.", "17:23"),
        ("The price rose.", "Der Preis stieg um 3,7 %.", "3,7"),
        ("Room 101 is free.", "Zimmer 101 kostet 450 Euro.", "450"),
        ("One of the rooms is free.", "Eines der 48 Zimmer ist frei.", "48"),
        ("The house was built long ago.", "房子建于1890年。", "1890"),
        ("12 million people", "1200万人 und 1300 Katzen", "1300"),
        ("It is on question 7.", "Es ist Frage ٤٥.", "٤٥"),
        ("Hello.", "9" * 100, "9" * 60 + "…"),
    ],
)
def test_what_an_answer_invented_is_named(source: str, answer: str, invented: str) -> None:
    assert fault("invariants", source, answer) == f"the answer has {invented}, which is not in its source"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("the letter of 3 October", "der Brief vom 3.10."),
        ("the letter of 3 October 2024", "2024年10月3日的信"),
        ("le 1er novembre à midi", "1 November at 12:00"),
        ("after 5 p.m.", "nach 17 Uhr"),
        ("after 5 p.m.", "après 17h00"),
        ("at 5 pm", "at 1700 hours"),
        ("um 17 Uhr", "at 5 pm"),
        ("from 9:30 pm", "ab 21.30 Uhr"),
        ("at half past five", "um 17:30 Uhr"),
        ("um halb sechs", "à 5h30"),
        ("a quarter past 3", "um 3:15 Uhr"),
        ("ten minutes past 5", "5:10"),
        ("at midnight", "um 24:00 Uhr"),
        ("day and night, for 3 days", "24 Stunden, drei Tage lang"),
        ("It costs £5.", "Es kostet 5,00 £."),
        ("a litre and a half", "1,5 Liter"),
        ("3½ miles", "3,5 Meilen"),
        ("half of all 3 cats", "50 % aller drei Katzen"),
        ("two of 3", "2 von drei"),
        ("twelve people and 3 dogs", "12 Menschen und drei Hunde"),
        ("in two weeks", "in 14 Tagen"),
        ("in 2 weeks", "dans quinze jours, soit 15 jours"),
        ("a fortnight", "14 Tage"),
        ("forty-two cats", "42 Katzen"),
        ("zweiundvierzig Katzen", "42 cats"),
        ("quarante-deux chats", "42 cats"),
        ("quatre-vingt-dix-neuf ans", "99 years"),
        ("cuarenta y dos gatos", "42 cats"),
        ("сорок два кота", "42 cats"),
        ("czterdzieści dwa koty", "42 cats"),
        ("四十二只猫", "42 cats"),
        ("二〇二四年三月", "March 2024"),
        ("令和6年", "2024"),
        ("nineteen eighty-four", "1984"),
        ("Dial nine one one.", "Rufen Sie 911."),
        ("three hundred people and a thousand dogs", "300人と1000匹の犬"),
        ("half a million people", "500.000 Menschen"),
        ("5 million people", "5.000.000 Menschen"),
        ("3.5 million people", "3 500 000 personnes"),
        ("12 lakh rupees", "1.2 million rupees"),
        ("a century", "100 ans"),
        ("the twentieth century", "20世纪"),
        ("le XIXe siècle", "the 19th century"),
        ("Louis XIV", "Ludwig 14."),
        ("MCMLXXXIV", "1984"),
        ("the summer of '24", "der Sommer 2024"),
        ("2023/24", "2023–2024"),
        ("12/05/24", "le 12 mai 2024"),
        ("Rs. 12,34,567", "1.234.567 Rupien"),
        ("020-794-609", "020 794 609"),
        ("See `f(100)`.", "Siehe 100 in `f(100)`."),
        ("World War II", "der 2. Weltkrieg"),
        ("3 cats", "drei Katzen"),
        ("1. First\n2. Second", "1. Erstens\n2. Zweitens"),
        ("10 to 12 cups", "zehn bis 12 Tassen"),
        ("The fee is 1 250 euros.", "Die Gebühr beträgt 1250 Euro."),
    ],
)
def test_what_translators_do_invents_nothing(source: str, answer: str) -> None:
    assert fault("invariants", source, answer) is None


@pytest.mark.parametrize(
    ("source", "answer", "lost"),
    [
        ("12 Hill Road, Bristol BS1 6NN", "12 Hill Road, Bristol, 6NN", "BS1 6NN"),
        ("Bristol BS1 6NN", "Bristol BS1", "BS1 6NN"),
        ("Take the A380.", "Nehmen Sie das Flugzeug.", "A380"),
        ("It needs ISO9001.", "Es braucht ISO9002.", "ISO9001"),
        ("CO₂ rises.", "Es steigt.", "CO2"),
        ("乘坐M25。", "Take the motorway.", "M25"),
    ],
)
def test_a_code_that_an_answer_lost_is_named(source: str, answer: str, lost: str) -> None:
    assert fault("invariants", source, answer) == f"the answer lost {lost}"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Bristol BS1 6NN", "Bristol BS1\u00a06NN"),
        ("an A380", "空中客车A380飞机"),
        ("all A380s", "alle A380er"),
        ("a GPT4 model", "ein GPT-4-Modell"),
        ("ISO9001", "ISO 9001"),
        ("CO2 and H2O", "CO₂ und H₂O"),
        ("the M25", "трасса М25"),
        ("in Q3 of FY24", "im dritten Quartal 2024"),
        ("WW2 and WW1", "der Zweite und der Erste Weltkrieg"),
        ("EU27", "UE à 27"),
        ("USD100", "100 Dollar"),
        ("at 5PM on the 2ND", "um 17 Uhr am 2."),
        ("F1 and K9", "Formel 1 und Hunde"),
        ("10GB of 5G", "10 Go de 5G"),
    ],
)
def test_a_code_may_be_written_otherwise(source: str, answer: str) -> None:
    assert fault("invariants", source, answer) is None


@given(
    st.lists(st.sampled_from([*"0123456789.,' %{}$<>/`@\n", "a", "b", "1.5", "million", "{x}", "https://"])).map(
        "".join
    )
)
def test_a_text_loses_nothing_to_itself(text: str) -> None:
    assert fault("invariants", text, text) is None
    assert fault("invariants", text, f"{text}\n\n{text}") is None


# Hostile text

MEGABYTE = 1_000_000
HOSTILE = {
    "accents in the wrong order": "\u0301\u0316" * (MEGABYTE // 2),
    "accents on a letter": "a" + "\u0316\u0301" * (MEGABYTE // 2),
    "nothing visible": "\u200b" * MEGABYTE,
    "no space": "a" * MEGABYTE,
    "white space": " " * MEGABYTE + "a",
    "quotes": '"' * MEGABYTE,
    "underscores": "_" * MEGABYTE + "sure",
    "here": "here is " * (MEGABYTE // 8),
    "sorry": "i'm sorry " * (MEGABYTE // 10),
    "kann": "kann " * (MEGABYTE // 5),
    "wide": "以下" * (MEGABYTE // 2),
    "long forms": "\ufdfa" * MEGABYTE,
    "surrogates": "\ud800" * MEGABYTE,
    "digits": "1" * MEGABYTE,
    "groups": "1,234" + ",234" * (MEGABYTE // 4),
    "decimals": "1.1" * (MEGABYTE // 3),
    "braces": "{{" * (MEGABYTE // 2),
    "ticks": "`a``b" * (MEGABYTE // 5),
    "addresses": "a.b@" * (MEGABYTE // 4),
    "links": "www.http://" * (MEGABYTE // 11),
    "tags": "<a <b %(" * (MEGABYTE // 8),
    "words": "sure thing of course " * (MEGABYTE // 21),
    "codes": "BS1 6NN" * (MEGABYTE // 14),
    "capitals": "A" * MEGABYTE,
    "codes in lower case": "ab1 " * (MEGABYTE // 8),
    "number words": "twenty one " * (MEGABYTE // 11),
    "Roman numbers": "X" * MEGABYTE,
    "minutes": "5h1" * (MEGABYTE // 3),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name: str) -> None:
    text = HOSTILE[name]
    started = time.process_time()
    for source, answer in ((text, text[:-1] + "!"), ("So geht das nicht.", text)):
        for check in CHECKS:
            fault(check, source, answer)
    assert time.process_time() - started < 10, "quadratic: that would be minutes"
