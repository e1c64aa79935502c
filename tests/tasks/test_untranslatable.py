"""What needs no model: nothing with a word in it, and of languages only what leaves no doubt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.tasks.untranslatable import has_no_words, is_translated


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "12",
            "1,234.50 €",
            "(3.14 – 2.71) × 10²",
            "2024-05-06 12:30",
            "* * *",
            "…",
            "¿?",
            "100 %",
            "１２３",
        ),
        *("https://example.org/a?b=c", "www.example.org", "bob@example.org", "<bob@example.org>", "`ls -l`", "{name}"),
        *("{{ user.name }}", "%s: %d", "${HOME}/$USER", "<br/>", "</b>", "👍", "👩‍👩‍👧", "🇩🇪", "1️⃣", "{a} → {b}: 5"),
        *("１２３", "\ud800", "\x00", "\u200b"),
    ],
)
def test_what_has_no_words_needs_no_model(text: str) -> None:
    assert has_no_words(text)


@pytest.mark.parametrize(
    "text",
    [
        *("a", "5 km", "12:30 pm", "page 3", "x", "三", "см. 5", "See https://example.org", "`ls` it", "{name}!a", "ª"),
        *("<img alt='dog'>", "<name>", "3rd", "C++", "© Bob", "👍 ok", "%s files", "$5m"),
    ],
)
def test_a_word_needs_a_model(text: str) -> None:
    assert not has_no_words(text)


TEXTS = {
    "en": "It was the best of times, and they have not been away from this house for a year.",
    "de": "Der Hund ist nicht mit dem Mann im Haus, und die Katze liegt auf dem Sofa.",
    "fr": "Le chien est dans la maison avec les enfants, mais il ne dort pas sur le lit de ses parents.",
    "es": "El perro está en la casa con los niños, pero no duerme muy bien y es como un niño más.",
    "it": "Il cane è nella casa con i bambini, ma non dorme sul letto della madre anche se è più comodo.",
    "pt": "O cão não está em casa com os meninos, mas foi para uma praia e ele não volta pela noite.",
    "nl": "De hond is niet in het huis met een van de kinderen, maar hij wordt ook naar buiten gebracht.",
    "pl": "Pies nie jest w domu, ale to się nie podoba jego pani, bo on był przez cały dzień z nim.",
    "sv": "Hunden är inte i huset med en av barnen, och jag har den som var för dem, men det är bra.",
    "ru": "Он сказал, что это было так давно, когда они ещё жили в деревне, но он не помнит.",
    "uk": "Він сказав, що це було так давно, коли вони ще жили в селі, але він не пам'ятає.",
    "el": "Ο σκύλος δεν είναι στο σπίτι με τα παιδιά και θα πάει για να δει την θάλασσα.",
    "tr": "Bu köpek çok güzel ve daha büyük bir ev için değil, ama bu kadar iyi olan bir köpek.",
    "ar": "كان هذا الرجل في البيت مع الأولاد بعد أن عاد من المدينة التي كانت على البحر.",
    "zh": "我们昨天在北京的公园里散步，他说这是最好的时候，但是天气不太好。",
    "zh-Hant": "我們昨天在北京的公園裡散步，他說這是最好的時候，但是天氣不太好。",
    "ja": "昨日は天気がとても良かったので、私たちは公園を散歩しました。",
    "ko": "어제는 날씨가 아주 좋아서 우리는 공원에서 산책을 했습니다.",
    "th": "เมื่อวานนี้อากาศดีมาก เราจึงไปเดินเล่นในสวนสาธารณะ",
}  # fmt: skip


@pytest.mark.parametrize("tag", TEXTS)
def test_a_plain_sentence_is_known_for_its_language_and_no_other(tag: str) -> None:
    text = TEXTS[tag]
    same = {"zh": {"zh", "zh-Hans"}, "zh-Hant": {"zh", "zh-Hant"}}.get(tag, {tag})
    assert {other for other in [*TEXTS, "zh-Hans"] if is_translated(text, other)} == same


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Der Hund schläft.", "de"),  # too little to be sure of
        ("Die Zeit, Der Spiegel, Das Bild", "de"),
        ("Der Satz ist: the cat is not on the mat, and that was it.", "de"),
        (f"{TEXTS['de']} {TEXTS['en']}", "de"),
        (f"{TEXTS['de']} {TEXTS['en']}", "en"),
        (f"{TEXTS['de']} {TEXTS['ru']}", "de"),
        (TEXTS["de"] * 60, "de"),
        (TEXTS["pt"], "pt-BR"),
        (TEXTS["en"], "en-GB"),
        (TEXTS["en"], "xx"),
        (TEXTS["en"], ""),
        ("O can non está na casa cos nenos, máis foi para unha praia e el non volve pola noite.", "pt"),
        ("El gos no és a la casa amb els nens, però dorm molt bé i és com una nena més de la família.", "es"),
        ("Pes nie je v dome, ale to sa mu nepáči, keď je jeho pani preč a on je sám pri dverách.", "cs"),
        ("Die hond is nie in die huis met een van die kinders nie, maar hy het ook die bal van my.", "nl"),
        ("Hunden er ikkje i huset med ein av dei, og eg har den som er etter meg, men det er bra.", "no"),
        ("Hunden er ikke i huset, og det er ikke den som har været her med ham, men det er til dig.", "no"),
        ("Той каза, че това е било отдавна, когато те са живели на село, но той не го помни.", "ru"),
        ("Он је рекао да је то било давно и да се не сећа, али је био у селу са њима.", "ru"),
        ("این کتاب را از دوستم گرفتم که در شهر با من است و برای آن پول دادم.", "ar"),
        ("東京大学大学院理学系研究科附属天文学教育研究", "zh"),
        ("東京大学大学院理学系研究科附属天文学教育研究", "ja"),
        ("我哋噚日喺公園散步，佢話呢個係最好嘅時候，但係天氣唔係咁好，我哋都冇乜嘢做。", "zh"),
        ("https://the.example.org/the/and/of/to/is/that/was/for/with/it/as/his/they", "en"),
    ],
)
def test_what_leaves_a_doubt_is_left_to_the_model(text: str, tag: str) -> None:
    assert not is_translated(text, tag)


@given(st.text(), st.sampled_from([*TEXTS, "zh-Hans"]))
def test_chance_says_nothing_for_sure(text: str, tag: str) -> None:
    if is_translated(text, tag):
        assert len(text) >= 10
    assert has_no_words(text) or any(char.isalpha() for char in text)


@pytest.mark.parametrize("text", [sign * 250_000 for sign in ("`", "{", "a.b@", "www.", "的", "\u0301")])
def test_hostile_text_takes_linear_time(text: str) -> None:
    started = time.process_time()
    has_no_words(text)
    is_translated(text, "zh")
    assert time.process_time() - started < 10, "quadratic: that would be minutes"
