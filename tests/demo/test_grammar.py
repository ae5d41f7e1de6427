"""Sentences written out by hand, one for each thing that the grammar has to get right."""

from __future__ import annotations

import pytest

from comsl.demo.grammar import (
    HELD_OUT_SEED,
    SOURCE_LANGUAGES,
    Pair,
    generate,
    held_out,
    held_out_sentences,
    realize,
)
from comsl.demo.lexicon import Adjective, Noun, Time, Verb, load_lexicon
from comsl.demo.meaning import Clause, Phrase
from comsl.demo.realize.welsh import aspirate, limited_soft, nasal, soft

LEXICON = load_lexicon()


def noun(key: str) -> Noun:
    return next(n for n in LEXICON.nouns if n.key == key)


def adjective(key: str) -> Adjective:
    return next(a for a in LEXICON.adjectives if a.key == key)


def verb(key: str) -> Verb:
    return next(v for v in LEXICON.verbs if v.key == key)


def time(key: str) -> Time:
    return next(t for t in LEXICON.times if t.key == key)


def the(key: str, plural: bool = False, like: str | None = None) -> Phrase:
    return Phrase(noun(key), "the", plural, adjective(like) if like else None)


def a(key: str, like: str | None = None) -> Phrase:
    return Phrase(noun(key), "a", False, adjective(like) if like else None)


def my(key: str, like: str | None = None) -> Phrase:
    return Phrase(noun(key), "my", False, adjective(like) if like else None)


def count(number: int, key: str, like: str | None = None) -> Phrase:
    return Phrase(noun(key), number, True, adjective(like) if like else None)


def name(key: str) -> Phrase:
    return Phrase(noun(key), "")


def act(subject: Phrase | str, what: str, thing: Phrase | None = None, **fields) -> Clause:
    phrase = Phrase(pronoun=subject) if isinstance(subject, str) else subject
    return Clause("action", phrase, verb(what), thing, **fields)


def check(clause: Clause, **expected: str) -> None:
    for language, text in expected.items():
        assert realize(clause, language) == text


def test_who_does_what_to_whom() -> None:
    check(
        act(the("man"), "see", the("dog")),
        en="The man sees the dog.",
        de="Der Mann sieht den Hund.",
        es="El hombre ve al perro.",
        fr="L'homme voit le chien.",
        cy="Mae'r dyn yn gweld y ci.",
    )
    check(
        act(the("dog"), "see", the("man")),
        en="The dog sees the man.",
        de="Der Hund sieht den Mann.",
        es="El perro ve al hombre.",
        fr="Le chien voit l'homme.",
        cy="Mae'r ci yn gweld y dyn.",
    )


def test_german_object_first_is_told_by_its_case_alone() -> None:
    check(act(the("man"), "see", the("dog"), fronted=True), de="Den Hund sieht der Mann.", en="The man sees the dog.")
    check(act(the("woman"), "see", the("cat"), fronted=True), de="Die Frau sieht die Katze.")


def test_negation() -> None:
    check(
        act(the("woman"), "read", the("book"), negated=True),
        en="The woman does not read the book.",
        de="Die Frau liest das Buch nicht.",
        es="La mujer no lee el libro.",
        fr="La femme ne lit pas le livre.",
        cy="Dydy'r fenyw ddim yn darllen y llyfr.",
    )
    check(
        act("i", "buy", a("apple"), negated=True, tense="perfect"),
        en="I have not bought an apple.",
        de="Ich habe keinen Apfel gekauft.",
        es="No he comprado una manzana.",
        fr="Je n'ai pas acheté de pomme.",
        cy="Dw i ddim wedi prynu afal.",
    )


def test_tenses_send_german_verbs_to_the_end() -> None:
    check(
        act("we", "call", the("doctor"), tense="future", time=time("tomorrow"), fronted=True),
        en="We will call the doctor tomorrow.",
        de="Morgen werden wir den Arzt anrufen.",
        es="Mañana vamos a llamar al médico.",
        fr="Demain, nous allons appeler le médecin.",
        cy="Yfory byddwn ni'n ffonio'r meddyg.",
    )
    check(
        act("you", "call", the("doctor")),
        en="You call the doctor.",
        de="Du rufst den Arzt an.",
        es="Llamas al médico.",
        fr="Tu appelles le médecin.",
        cy="Rwyt ti'n ffonio'r meddyg.",
    )
    check(
        act(the("child"), "open", the("door"), tense="perfect", time=time("already")),
        en="The child has already opened the door.",
        de="Das Kind hat die Tür schon aufgemacht.",
        es="El niño ya ha abierto la puerta.",
        fr="L'enfant a déjà ouvert la porte.",
        cy="Mae'r plentyn wedi agor y drws yn barod.",
    )
    check(act("she", "run", tense="perfect"), de="Sie ist gelaufen.", fr="Elle a couru.", en="She has run.")


def test_modals() -> None:
    check(
        act(the("girl"), "swim", tense="can", negated=True),
        en="The girl cannot swim.",
        de="Das Mädchen kann nicht schwimmen.",
        es="La chica no puede nadar.",
        fr="La fille ne peut pas nager.",
        cy="Dydy'r ferch ddim yn gallu nofio.",
    )
    check(
        act(the("father"), "read", the("letter"), tense="must"),
        en="The father must read the letter.",
        de="Der Vater muss den Brief lesen.",
        es="El padre debe leer la carta.",
        fr="Le père doit lire la lettre.",
        cy="Rhaid i'r tad ddarllen y llythyr.",
    )
    check(
        act("he", "eat", the("apple"), tense="want"),
        en="He wants to eat the apple.",
        de="Er will den Apfel essen.",
        es="Él quiere comer la manzana.",
        fr="Il veut manger la pomme.",
        cy="Mae e eisiau bwyta'r afal.",
    )


def test_two_objects() -> None:
    clause = Clause("action", the("uncle"), verb("give"), the("book"), the("child"))
    check(
        clause,
        en="The uncle gives the book to the child.",
        de="Der Onkel gibt dem Kind das Buch.",
        es="El tío da el libro al niño.",
        fr="L'oncle donne le livre à l'enfant.",
        cy="Mae'r ewythr yn rhoi'r llyfr i'r plentyn.",
    )
    clause = Clause("action", name("Anna"), verb("show"), a("picture"), the("man", True), tense="perfect")
    check(
        clause,
        en="Anna has shown a picture to the men.",
        de="Anna hat den Männern ein Bild gezeigt.",
        es="Anna ha mostrado un cuadro a los hombres.",
        fr="Anna a montré un tableau aux hommes.",
        cy="Mae Anna wedi dangos llun i'r dynion.",
    )


def test_adjectives_agree_and_stand_where_they_stand() -> None:
    check(
        act(the("woman", like="old"), "buy", a("flower", "white")),
        en="The old woman buys a white flower.",
        de="Die alte Frau kauft eine weiße Blume.",
        es="La mujer vieja compra una flor blanca.",
        fr="La vieille femme achète une fleur blanche.",
        cy="Mae'r hen fenyw yn prynu blodyn gwyn.",
    )
    check(
        act(the("man", like="old"), "see", my("cat", "white")),
        de="Der alte Mann sieht meine weiße Katze.",
        fr="Le vieil homme voit mon chat blanc.",
        cy="Mae'r hen ddyn yn gweld fy nghath wen.",
    )
    check(
        act("i", "lose", count(3, "key", "small")),
        en="I lose three small keys.",
        de="Ich verliere drei kleine Schlüssel.",
        es="Pierdo tres llaves pequeñas.",
        fr="Je perds trois petites clés.",
        cy="Dw i'n colli tair allwedd fach.",
    )


def test_german_dative_and_weak_nouns() -> None:
    check(act("i", "help", the("student")), de="Ich helfe dem Studenten.", en="I help the student.")
    check(act("i", "wait for", the("bear")), de="Ich warte auf den Bären.", en="I wait for the bear.")
    check(act(the("boy"), "follow", a("woman"), tense="perfect"), de="Der Junge ist einer Frau gefolgt.")


def test_comparison() -> None:
    check(
        Clause("compare", the("dog"), adjective=adjective("big"), object=the("cat")),
        en="The dog is bigger than the cat.",
        de="Der Hund ist größer als die Katze.",
        es="El perro es más grande que el gato.",
        fr="Le chien est plus grand que le chat.",
        cy="Mae'r ci yn fwy na'r gath.",
    )


def test_places_and_existence() -> None:
    check(
        Clause("place", the("book"), place=("on", the("table"))),
        en="The book is on the table.",
        de="Das Buch ist auf dem Tisch.",
        es="El libro está sobre la mesa.",
        fr="Le livre est sur la table.",
        cy="Mae'r llyfr ar y bwrdd.",
    )
    check(
        Clause("exist", a("dog"), place=("in", the("garden")), negated=True),
        en="There is no dog in the garden.",
        de="Es gibt keinen Hund im Garten.",
        es="No hay ningún perro en el jardín.",
        fr="Il n'y a pas de chien dans le jardin.",
        cy="Does dim ci yn yr ardd.",
    )
    check(
        Clause("exist", count(2, "cat"), place=("beside", the("house")), fronted=True),
        en="There are two cats next to the house.",
        de="Neben dem Haus gibt es zwei Katzen.",
        es="Hay dos gatos al lado de la casa.",
        fr="Il y a deux chats à côté de la maison.",
        cy="Mae dwy gath wrth ymyl y tŷ.",
    )


def test_clock_and_weekday() -> None:
    clause = act(the("singer"), "sing", time=time("on Monday"), hour=3, half=True)
    check(
        clause,
        en="The singer sings on Monday at half past three.",
        de="Die Sängerin singt am Montag um halb vier.",
        es="La cantante canta el lunes a las tres y media.",
        fr="La chanteuse chante lundi à trois heures et demie.",
        cy="Mae'r gantores yn canu ddydd Llun am hanner awr wedi tri.",
    )
    check(
        act("we", "work", hour=1),
        en="We work at one o'clock.",
        de="Wir arbeiten um ein Uhr.",
        es="Trabajamos a la una.",
        fr="Nous travaillons à une heure.",
        cy="Rydyn ni'n gweithio am un o'r gloch.",
    )
    check(act("we", "work", hour=12, half=True), de="Wir arbeiten um halb eins.")


def test_questions() -> None:
    check(
        act(the("queen"), "drink", the("wine"), question=True),
        en="Does the queen drink the wine?",
        de="Trinkt die Königin den Wein?",
        es="¿Bebe la reina el vino?",
        fr="Est-ce que la reine boit le vin ?",
        cy="Ydy'r frenhines yn yfed y gwin?",
    )
    check(
        Clause("who_subject", Phrase(pronoun="he"), verb("see"), the("fox")),
        en="Who sees the fox?",
        de="Wer sieht den Fuchs?",
        es="¿Quién ve al zorro?",
        fr="Qui voit le renard ?",
        cy="Pwy sy'n gweld y llwynog?",
    )
    check(
        Clause("who_object", the("fox"), verb("see"), question=True),
        en="Who does the fox see?",
        de="Wen sieht der Fuchs?",
        es="¿A quién ve el zorro?",
        fr="Qui est-ce que le renard voit ?",
        cy="Pwy mae'r llwynog yn ei weld?",
    )
    check(
        Clause("where", the("key", True)),
        en="Where are the keys?",
        de="Wo sind die Schlüssel?",
        es="¿Dónde están las llaves?",
        fr="Où sont les clés ?",
        cy="Ble mae'r allweddi?",
    )


def test_subordinate_clause_and_scope_of_the_negation() -> None:
    reason = act(the("doctor"), "call", the("guest"))
    check(
        act(the("boy"), "sleep", negated=True, reason=reason),
        en="The boy does not sleep because the doctor calls the guest.",
        de="Der Junge schläft nicht, weil der Arzt den Gast anruft.",
        es="El chico no duerme porque el médico llama al invitado.",
        fr="Le garçon ne dort pas parce que le médecin appelle l'invité.",
        cy="Dydy'r bachgen ddim yn cysgu achos bod y meddyg yn ffonio'r gwestai.",
    )
    ill = Clause("state", Phrase(pronoun="she"), adjective=adjective("ill"))
    check(
        act("i", "cry", reason=ill),
        en="I cry because she is ill.",
        de="Ich weine, weil sie krank ist.",
        es="Lloro porque ella está enferma.",
        fr="Je pleure parce qu'elle est malade.",
        cy="Dw i'n crio achos ei bod hi'n sâl.",
    )


@pytest.mark.parametrize(
    ("word", "softened", "nasalised", "aspirated"),
    [
        ("ci", "gi", "nghi", "chi"),
        ("plentyn", "blentyn", "mhlentyn", "phlentyn"),
        ("tad", "dad", "nhad", "thad"),
        ("brawd", "frawd", "mrawd", "brawd"),
        ("dyn", "ddyn", "nyn", "dyn"),
        ("gardd", "ardd", "ngardd", "gardd"),
        ("mam", "fam", "mam", "mam"),
        ("llyfr", "lyfr", "llyfr", "llyfr"),
        ("chwaer", "chwaer", "chwaer", "chwaer"),
    ],
)
def test_welsh_mutations(word: str, softened: str, nasalised: str, aspirated: str) -> None:
    assert (soft(word), nasal(word), aspirate(word)) == (softened, nasalised, aspirated)
    assert limited_soft("llygoden") == "llygoden"


def test_welsh_numbers_take_the_singular_and_their_mutations() -> None:
    where = ("in", the("house"))
    expected = {2: "dau gi", 3: "tri chi", 4: "pedwar ci", 5: "pum ci", 6: "chwe chi", 7: "saith ci"}
    for number, text in expected.items():
        assert realize(Clause("exist", count(number, "dog"), place=where), "cy") == f"Mae {text} yn y tŷ."


@pytest.mark.parametrize("language", SOURCE_LANGUAGES)
def test_generated_sentences(language: str) -> None:
    pairs = generate(language, 300, seed=5)
    assert pairs == generate(language, 300, seed=5)
    assert pairs[:50] == generate(language, 50, seed=5)
    assert len({pair.source for pair in pairs}) == 300
    assert tuple(generate(language, 20, HELD_OUT_SEED)) == held_out(language, "test")[:20]
    for pair in pairs:
        assert isinstance(pair, Pair)
        assert 3 <= len(pair.source.replace(" ?", "?").split()) <= 12
        assert pair.source[-1] in ".?"
        assert pair.english[-1] == pair.source[-1]
        assert "  " not in pair.source
        assert pair.english[0].isupper()
        for article in ("le", "la", "de", "ne", "je", "que"):
            assert f" {article} a" not in (pair.source if language == "fr" else "")


@pytest.mark.parametrize("language", SOURCE_LANGUAGES)
def test_what_is_left_out_is_left_out_on_both_sides(language: str) -> None:
    some = generate(language, 300, seed=5)
    texts = {some[7].source, some[9].english}
    left = generate(language, 300, seed=5, exclude=texts)
    assert not texts & {text for pair in left for text in (pair.source, pair.english)}
    assert len({pair.source for pair in left} - {pair.source for pair in some}) < 10


def test_test_and_dev_are_apart_and_held_out() -> None:
    for language in SOURCE_LANGUAGES:
        test, dev = held_out(language, "test"), held_out(language, "dev")
        assert (len(test), len(dev)) == (300, 200)
        assert not {p.source for p in test} & {p.source for p in dev}
        assert {text for p in (*test, *dev) for text in (p.source, p.english)} <= held_out_sentences()


def test_test_sentences_are_unseen_and_words_are_not() -> None:
    training = generate("de", 2000, 1, held_out_sentences())
    test = held_out("de", "test")
    assert not {pair.english for pair in training} & {pair.english for pair in test}
    words = {word for pair in training for word in pair.source.strip(".?").split()}
    known = [word in words for pair in test for word in pair.source.strip(".?").split()]
    assert sum(known) / len(known) > 0.97


def test_a_bag_of_words_has_several_meanings() -> None:
    for language in SOURCE_LANGUAGES:
        one = realize(act(name("Anna"), "help", name("Peter")), language)
        other = realize(act(name("Peter"), "help", name("Anna")), language)
        assert one != other
        assert sorted(one.strip(".").split()) == sorted(other.strip(".").split())
