"""Made-up customer messages, each with the category it was made for: `python tests/benchmarks/messages.py [1000]`.

A message is put together from an opening, a matter, up to two details, an aside and a closing, in the hand of somebody
who may be hasty; only the matter is always there. The matters of each category name its subject in many ways, and the
words of one category turn up in the others, so that no single word gives it away.
"""

from __future__ import annotations

import argparse
import random
import signal
from collections.abc import Iterator

_FEWEST_WORDS, _MOST_WORDS = 6, 60

_OPENINGS = (
    "Hi,", "Hello,", "Hello there,", "Good morning,", "Good evening,", "Dear team,", "Dear Sir or Madam,", "Hey,",
    "To whom it may concern:", "Hello again,", "Second attempt:", "Sorry to bother you, but", "Quick one:",
    "I hope you are well.", "I have been a customer since {year}.", "Writing from my phone, so excuse the brevity.",
)  # fmt: skip

_CLOSINGS = (
    "Thanks in advance.", "Thank you!", "Kind regards, {name}", "Best, {name}", "Regards, {name}", "{name}", "Cheers",
    "Please let me know.", "I look forward to your answer.", "A short reply would be enough.", "Many thanks, {name}",
    "You can ring me after six.", "Have a good weekend.", "Yours, {name}", "Order number {order}, if that helps.",
)  # fmt: skip

_MATTERS = {
    "billing": (
        "you have taken {amount} from my account twice for the same {item}.",
        "my bank statement shows {amount} that I cannot match with anything I bought.",
        "the total on the paper in the box is {amount} more than what I agreed to.",
        "I sent the {item} back {ago} and have not seen my money yet.",
        "could I have the receipt for order {order} with our company's tax number on it?",
        "the voucher from your newsletter took nothing off the price of the {item}.",
        "why did the yearly plan go up to {amount} without anybody telling me?",
        "I was promised half price for the {item} and was asked for all of it.",
        "your reminder says that I owe {amount}, but I settled that {ago}.",
        "please explain the extra {amount} on my last invoice.",
        "is it possible to pay for the {item} in three instalments?",
        "my card was declined for order {order}, and yet the sum has gone.",
        "the exchange rate you used for the {item} is nowhere near the real one.",
        "I cancelled {ago} and was still charged {amount} this month.",
        "charged twice for the {item}, please fix.",
    ),
    "delivery": (
        "order {order} was meant to be here on {day} and still is not.",
        "where is my {item}? The tracking page has not moved since {day}.",
        "the driver says he rang, but I sat beside the door the whole of {day}.",
        "somebody signed for my {item}, and it was not me.",
        "can order {order} go to my office instead? It has not left yet.",
        "your courier put the {item} over the fence and into the pond.",
        "I paid for express and have now waited since {day}.",
        "the parcel has been sitting at a depot thirty kilometres away since {day}.",
        "only one of the two boxes of order {order} has come; the {item} is missing.",
        "do you send the {item} to islands, and how many days does that take?",
        "a neighbour I have never met is supposed to have my {item}.",
        "I move house on {day}. Can the {item} still be redirected?",
        "it says \"handed over\", but neither the hall nor the shed has anything in it.",
        "twice now the {item} has gone back to you because the label had the wrong street.",
        "still no {item}, ordered {ago}.",
    ),
    "defect": (
        "the {device} stopped working {ago} and nothing I try brings it back.",
        "there is a crack right across the {item} that I bought {ago}.",
        "when I switch the {device} on, it smells of burnt rubber.",
        "there is a piece missing from the {item}, and it is not in the box either.",
        "the {device} came with a dent and without its screws.",
        "after the first wash the {cloth} is two sizes smaller.",
        "something drips out of the {device}, and my floor has paid the price.",
        "I unpacked the {device} on {day} and it makes a noise like a tractor.",
        "two seams of the {cloth} have come open since {day}.",
        "my {device} loses its charge within an hour, although it is new.",
        "the switch came off the {device} in my hand while I was using it.",
        "the colour of the {cloth} rubs off on everything it touches.",
        "half of the buttons on the {device} do nothing at all.",
        "is it normal that the {device} gets too hot to hold? Order {order}, from {day}.",
        "my new {device} is dead already.",
    ),
    "account": (
        "I cannot log in any more since you changed the website.",
        "the code you send me to sign in never arrives on my phone.",
        "please change my e-mail address; I have lost the old one.",
        "kindly remove all that you have stored about me and confirm it.",
        "there seem to be two profiles in my name, one with each of my orders.",
        "the password page rejects everything I type, even what it suggests itself.",
        "I got married on {day} and would like my new surname to be shown.",
        "somebody in another country appears to have used my login {ago}.",
        "how do I stop the newsletter? I have unticked the box three times.",
        "my wish list with the {item} vanished overnight.",
        "can my husband and I share one profile, or does each of us need to register?",
        "I am locked out after too many attempts, and I need order {order}.",
        "the app keeps throwing me out whenever I open my settings.",
        "may I take my loyalty points along when I switch to a company profile?",
        "cannot get in, please help me.",
    ),
    "praise": (
        "the {item} is even better than in the pictures.",
        "just a line to say how happy we are with the {item}.",
        "it arrived a day early and was wrapped like a present.",
        "{agent} on your phone line sorted everything out in four minutes.",
        "I have owned the {item} since {year} and it is as good as on its first day.",
        "you gave the {amount} back before I had even asked. That is rare.",
        "my grandmother will not part with her {item} any more.",
        "the courier carried the {item} up five floors with a smile.",
        "ordering was so easy that I did it without my glasses.",
        "your people replaced the broken {item} without a single question.",
        "honestly the nicest shop I have dealt with, and I am hard to please.",
        "whoever wrote the instructions for the {item} deserves a rise.",
        "great {item}, thank you so much.",
        "the new sign-in is so much simpler, well done.",
        "our whole office now wants the same {item} because of mine.",
    ),
    "other": (
        "do you have a shop where one can look at the {item}?",
        "is the {item} suitable for somebody with an allergy to nickel?",
        "I am a student and am writing a paper on shops such as yours.",
        "are you looking for drivers or warehouse staff at the moment?",
        "will the {item} be sold in green again?",
        "which of your two models of the {device} is the quieter one?",
        "our school would like to visit your workshop on {day}.",
        "what are your opening hours on {day}?",
        "did you send me a text about unpaid customs of {amount}, or is that a fraud?",
        "I found a spelling mistake on the page of the {item}.",
        "would you give us one {item} for the raffle of our fire brigade?",
        "where is the {item} made, and by whom?",
        "how long will there be spare parts for the {device}?",
        "I make covers for the {item} by hand and wonder if you would sell them.",
        "does the {item} come in green?",
    ),
}  # fmt: skip

_DETAILS = {
    "billing": (
        "The last four digits of the card are {digits}.", "My bookkeeper needs this before {other_day}.",
        "I have attached a picture of the statement.", "It is not a fortune, but it is mine.",
        "The one before it, for {other_amount}, was right.", "The parcel itself came on {other_day} and is fine.",
    ),
    "delivery": (
        "There is always somebody at home after four.", "I need it by {other_day}, as it is a birthday present.",
        "The address is right, I have looked at it three times.", "The number that you sent me leads nowhere.",
        "If it is lost, I would like my {other_amount} back.", "It was the same with my last order.",
    ),
    "defect": (
        "I followed the instructions to the letter.", "I have kept the box and the invoice.",
        "A replacement would be better for me than the money.", "I can send a picture if you tell me where.",
        "It cost me {other_amount}, after all.", "The other one, delivered with it, is perfect.",
    ),
    "account": (
        "I have tried it on two computers and a phone.", "The address you know is probably the one from {year}.",
        "It worked until {other_day}.", "I have been through the help page, and it goes round in circles.",
        "An open refund of {other_amount} hangs on it, too.", "Nobody but me uses this phone.",
    ),
    "praise": (
        "I had expected trouble, to be frank.", "Please pass that on to everyone.", "Five stars from all of us.",
        "The last shop charged me {other_amount} for the same and took three weeks.", "I have told all my colleagues.",
        "Even the invoice was friendly.",
    ),
    "other": (
        "I could not find anything about it on your pages.", "There is no hurry.", "It need not be much.",
        "A friend who got hers for {other_amount} could not tell me.", "I would need to know by {other_day}.",
        "If you are the wrong people to ask, please pass it on.",
    ),
}  # fmt: skip

_ASIDES = (
    "I did try the chat first, which was no use.", "I live in {place}, by the way.",
    "We got it for our place in {place}.", "I called on {other_day} and hung up after half an hour.",
    "You have always been quick to reply so far.", "My English is not so good, I hope it is clear.",
    "I have looked in all the usual places.", "I wrote about this {ago} as well.",
)  # fmt: skip

_DEVICES = (
    "kettle", "desk lamp", "bread machine", "bicycle pump", "alarm clock", "drill", "baby monitor", "hair dryer",
    "scooter", "coffee grinder", "vacuum cleaner", "radio", "electric fan",
)  # fmt: skip
_CLOTHS = ("rucksack", "wool blanket", "tent", "raincoat", "cushion", "dressing gown", "tablecloth", "sun hat")
_THINGS = (
    "office chair", "teapot", "frying pan", "garden hose", "bookcase", "suitcase", "mattress", "fountain pen",
    "chopping board", "step ladder",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "the 3rd", "the 14th", "the 28th")
_NAMES = ("Amira", "Joost", "Priya", "Mr Halloran", "Lucía", "T. Brandt", "Oskar", "Mrs Nakamura", "Dele", "Fran")
_FACTS = {
    "ago": ("last week", "ten days ago", "a month ago", "in spring", "yesterday", "before Christmas", "weeks ago"),
    "place": ("a village in the hills", "Leeds", "Porto", "the old town", "Bergen", "Graz", "Galway", "Gdańsk"),
}


def support_messages(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return so many (message, category) pairs, no two messages alike; fewer are the beginning of more."""
    chance = random.Random(seed)
    categories = tuple(_MATTERS)
    found: dict[str, str] = {}
    while len(found) < count:
        category = chance.choice(categories)
        message = _in_a_hurry(_write(category, chance), chance)
        if _FEWEST_WORDS <= len(message.split()) <= _MOST_WORDS:
            found.setdefault(message, category)
    return list(found.items())


def _write(category: str, chance: random.Random) -> str:
    facts = {name: chance.choice(values) for name, values in _FACTS.items()} | {
        "item": chance.choice((*_DEVICES, *_CLOTHS, *_THINGS)),
        "device": chance.choice(_DEVICES),
        "cloth": chance.choice(_CLOTHS),
        "order": f"{chance.randint(40_000, 69_999)}",
        "year": f"{chance.randint(2009, 2024)}",
        "digits": f"{chance.randint(0, 9999):04}",
    }
    facts["day"], facts["other_day"] = chance.sample(_DAYS, 2)
    facts["name"], facts["agent"] = chance.sample(_NAMES, 2)
    currency = chance.choice("£€$")
    for name, whole in zip(("amount", "other_amount"), chance.sample(range(4, 180), 2), strict=True):
        facts[name] = f"{currency}{whole}.{chance.choice(('00', '50', '90', '99'))}"
    parts = [text.format_map(facts) for text in _parts(category, chance)]
    return " ".join(_with_capitals(parts))


def _parts(category: str, chance: random.Random) -> Iterator[str]:
    if chance.random() < 0.6:
        yield chance.choice(_OPENINGS)
    yield chance.choice(_MATTERS[category])
    yield from chance.sample(_DETAILS[category], chance.choice((0, 0, 1, 1, 2)))
    if chance.random() < 0.45:
        yield chance.choice(_ASIDES)
    if chance.random() < 0.5:
        yield chance.choice(_CLOSINGS)


def _with_capitals(parts: list[str]) -> Iterator[str]:
    before = "."
    for part in parts:
        yield part[0].upper() + part[1:] if before.endswith((".", "!", "?")) else part
        before = part


def _in_a_hurry(message: str, chance: random.Random) -> str:
    """Return the message with a slip of the finger now and then, or without capitals, or without its last stop."""
    if chance.random() < 0.12:
        message = message.lower()
    if chance.random() < 0.2:
        message = message.removesuffix(".")
    words = message.split(" ")
    if chance.random() < 0.25:
        long = [index for index, word in enumerate(words) if word.isalpha() and len(word) > 4]
        if long:
            index = chance.choice(long)
            words[index] = _mistype(words[index], chance)
    return " ".join(words)


def _mistype(word: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return chance.choice((swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]))


def main() -> None:
    """Print messages, one a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=1000, help="how many messages")
    parser.add_argument("--seed", type=int, default=0, help="others for each seed")
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    for message, _ in support_messages(options.count, options.seed):
        print(message)


if __name__ == "__main__":
    main()
