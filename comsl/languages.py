"""One table of languages: what each is called in CoVoST 2 and in every model family that can be a part.

The codes of this package are ISO 639-1 as CoVoST 2 writes them without the region ("zh", not "zh-CN"),
ISO 639-3 where there is no shorter one ("mdw", Mboshi), and NLLB-200's for a second script of a language
("zho_Hant"). ``get_language`` accepts the other spellings too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from comsl.errors import UsageError

Level = Literal["high", "mid", "low"]


class UnknownLanguage(UsageError):
    """A language code or name that is not in the table; the message names the nearest ones."""


@dataclass(frozen=True)
class Language:
    """A language and its codes; None where a model family lacks it.

    Attributes:
        code: the code used everywhere in this package.
        name: English name.
        level: resource level as source language of CoVoST 2 -> English (ComSL paper, section 4); None for others.
        whisper: code inside Whisper's ``<|de|>``.
        mbart50: language token of mBART-50.
        m2m100: language token of M2M-100.
        nllb: language token of NLLB-200.
        espeak: espeak-ng voice; only for the languages of CoVoST 2 and Mboshi.
        related: code of the language whose embedding a new language token starts from; None: name one.
        espeak_exact: False where espeak-ng has no voice for the language and ``espeak`` is a neighbour's that reads
            the same script.
    """

    code: str
    name: str
    level: Level | None
    whisper: str | None
    mbart50: str | None
    m2m100: str | None
    nllb: str | None
    espeak: str | None
    related: str | None
    espeak_exact: bool = True

    @property
    def common_voice(self) -> str:
        """What the language is called in file and folder names of Common Voice and CoVoST 2."""
        return _COMMON_VOICE.get(self.code, self.code)


# Only those of CoVoST 2; Common Voice gives some other languages a region too.
_COMMON_VOICE = {"zh": "zh-CN", "sv": "sv-SE"}

_COVOST = (
    # code, name, level, Whisper, mBART-50, M2M-100, NLLB-200, espeak-ng, related
    Language("en", "English", None, "en", "en_XX", "__en__", "eng_Latn", "en-us", "de"),
    Language("fr", "French", "high", "fr", "fr_XX", "__fr__", "fra_Latn", "fr-fr", "es"),
    Language("de", "German", "high", "de", "de_DE", "__de__", "deu_Latn", "de", "nl"),
    Language("es", "Spanish", "high", "es", "es_XX", "__es__", "spa_Latn", "es", "pt"),
    Language("ca", "Catalan", "high", "ca", None, "__ca__", "cat_Latn", "ca", "es"),
    Language("fa", "Persian", "mid", "fa", "fa_IR", "__fa__", "pes_Arab", "fa", "ar"),
    Language("it", "Italian", "mid", "it", "it_IT", "__it__", "ita_Latn", "it", "es"),
    Language("ru", "Russian", "mid", "ru", "ru_RU", "__ru__", "rus_Cyrl", "ru", "sl"),
    Language("pt", "Portuguese", "mid", "pt", "pt_XX", "__pt__", "por_Latn", "pt", "es"),
    Language("zh", "Chinese", "mid", "zh", "zh_CN", "__zh__", "zho_Hans", "cmn", "ja"),
    Language("tr", "Turkish", "low", "tr", "tr_TR", "__tr__", "tur_Latn", "tr", None),
    Language("ar", "Arabic", "low", "ar", "ar_AR", "__ar__", "arb_Arab", "ar", "fa"),
    Language("et", "Estonian", "low", "et", "et_EE", "__et__", "est_Latn", "et", "lv"),
    # Mongolian in Cyrillic; Kazakh shares the letters, its extra vowels included.
    Language("mn", "Mongolian", "low", "mn", "mn_MN", "__mn__", "khk_Cyrl", "kk", "ru", espeak_exact=False),
    Language("nl", "Dutch", "low", "nl", "nl_XX", "__nl__", "nld_Latn", "nl", "de"),
    Language("sv", "Swedish", "low", "sv", "sv_SE", "__sv__", "swe_Latn", "sv", "de"),
    Language("lv", "Latvian", "low", "lv", "lv_LV", "__lv__", "lvs_Latn", "lv", "et"),
    Language("sl", "Slovenian", "low", "sl", "sl_SI", "__sl__", "slv_Latn", "sl", "ru"),
    Language("ta", "Tamil", "low", "ta", "ta_IN", "__ta__", "tam_Taml", "ta", None),
    Language("ja", "Japanese", "low", "ja", "ja_XX", "__ja__", "jpn_Jpan", "ja", "zh"),
    Language("id", "Indonesian", "low", "id", "id_ID", "__id__", "ind_Latn", "id", None),
    # The paper starts Welsh from nothing; English is what its speakers mix it with.
    Language("cy", "Welsh", "low", "cy", None, "__cy__", "cym_Latn", "cy", "en"),
    Language("sw", "Swahili", None, "sw", "sw_KE", "__sw__", "swh_Latn", "sw", None),
    # Mboshi (Bantu C25): no model knows it. Swahili is the Bantu language that most of them do know.
    Language("mdw", "Mboshi", None, None, None, None, None, "sw", "sw", espeak_exact=False),
)

# Every other language that mBART-50, M2M-100, NLLB-200 or Whisper has a token for. Where a family's code is that of a
# macrolanguage and another's of its standard variety (M2M-100's "ms", NLLB's "zsm"), they are one language.
_OTHERS = """
# code   Whisper mBART-50 M2M-100 NLLB-200 name
ace      -   -     -   ace_Latn Acehnese
ace_Arab -   -     -   ace_Arab Acehnese (Arabic script)
acm      -   -     -   acm_Arab Mesopotamian Arabic
acq      -   -     -   acq_Arab Ta'izzi-Adeni Arabic
aeb      -   -     -   aeb_Arab Tunisian Arabic
af       af  af_ZA af  afr_Latn Afrikaans
ajp      -   -     -   ajp_Arab South Levantine Arabic
ak       -   -     -   aka_Latn Akan
am       am  -     am  amh_Ethi Amharic
apc      -   -     -   apc_Arab North Levantine Arabic
ars      -   -     -   ars_Arab Najdi Arabic
ary      -   -     -   ary_Arab Moroccan Arabic
arz      -   -     -   arz_Arab Egyptian Arabic
as       as  -     -   asm_Beng Assamese
ast      -   -     ast ast_Latn Asturian
awa      -   -     -   awa_Deva Awadhi
ay       -   -     -   ayr_Latn Aymara
az       az  az_AZ az  azj_Latn Azerbaijani
azb      -   -     -   azb_Arab South Azerbaijani
ba       ba  -     ba  bak_Cyrl Bashkir
ban      -   -     -   ban_Latn Balinese
be       be  -     be  bel_Cyrl Belarusian
bem      -   -     -   bem_Latn Bemba
bg       bg  -     bg  bul_Cyrl Bulgarian
bho      -   -     -   bho_Deva Bhojpuri
bjn      -   -     -   bjn_Latn Banjar
bjn_Arab -   -     -   bjn_Arab Banjar (Arabic script)
bm       -   -     -   bam_Latn Bambara
bn       bn  bn_IN bn  ben_Beng Bengali
bo       bo  -     -   bod_Tibt Tibetan
br       br  -     br  -        Breton
bs       bs  -     bs  bos_Latn Bosnian
bug      -   -     -   bug_Latn Buginese
ceb      -   -     ceb ceb_Latn Cebuano
cjk      -   -     -   cjk_Latn Chokwe
ckb      -   -     -   ckb_Arab Central Kurdish
crh      -   -     -   crh_Latn Crimean Tatar
cs       cs  cs_CZ cs  ces_Latn Czech
da       da  -     da  dan_Latn Danish
dik      -   -     -   dik_Latn Southwestern Dinka
dyu      -   -     -   dyu_Latn Dyula
dz       -   -     -   dzo_Tibt Dzongkha
ee       -   -     -   ewe_Latn Ewe
el       el  -     el  ell_Grek Greek
eo       -   -     -   epo_Latn Esperanto
eu       eu  -     -   eus_Latn Basque
ff       -   -     ff  fuv_Latn Fulah
fi       fi  fi_FI fi  fin_Latn Finnish
fj       -   -     -   fij_Latn Fijian
fo       fo  -     -   fao_Latn Faroese
fon      -   -     -   fon_Latn Fon
fur      -   -     -   fur_Latn Friulian
fy       -   -     fy  -        Western Frisian
ga       -   -     ga  gle_Latn Irish
gd       -   -     gd  gla_Latn Scottish Gaelic
gl       gl  gl_ES gl  glg_Latn Galician
gn       -   -     -   grn_Latn Guarani
gu       gu  gu_IN gu  guj_Gujr Gujarati
ha       ha  -     ha  hau_Latn Hausa
haw      haw -     -   -        Hawaiian
he       he  he_IL he  heb_Hebr Hebrew
hi       hi  hi_IN hi  hin_Deva Hindi
hne      -   -     -   hne_Deva Chhattisgarhi
hr       hr  hr_HR hr  hrv_Latn Croatian
ht       ht  -     ht  hat_Latn Haitian Creole
hu       hu  -     hu  hun_Latn Hungarian
hy       hy  -     hy  hye_Armn Armenian
ig       -   -     ig  ibo_Latn Igbo
ilo      -   -     ilo ilo_Latn Ilocano
is       is  -     is  isl_Latn Icelandic
jv       jw  -     jv  jav_Latn Javanese
ka       ka  ka_GE ka  kat_Geor Georgian
kab      -   -     -   kab_Latn Kabyle
kac      -   -     -   kac_Latn Jingpho
kam      -   -     -   kam_Latn Kamba
kas_Deva -   -     -   kas_Deva Kashmiri (Devanagari script)
kbp      -   -     -   kbp_Latn Kabiye
kea      -   -     -   kea_Latn Kabuverdianu
kg       -   -     -   kon_Latn Kongo
ki       -   -     -   kik_Latn Kikuyu
kk       kk  kk_KZ kk  kaz_Cyrl Kazakh
km       km  km_KH km  khm_Khmr Khmer
kmb      -   -     -   kmb_Latn Kimbundu
kmr      -   -     -   kmr_Latn Northern Kurdish
kn       kn  -     kn  kan_Knda Kannada
knc      -   -     -   knc_Latn Central Kanuri
knc_Arab -   -     -   knc_Arab Central Kanuri (Arabic script)
ko       ko  ko_KR ko  kor_Hang Korean
ks       -   -     -   kas_Arab Kashmiri
ky       -   -     -   kir_Cyrl Kyrgyz
la       la  -     -   -        Latin
lb       lb  -     lb  ltz_Latn Luxembourgish
lg       -   -     lg  lug_Latn Ganda
li       -   -     -   lim_Latn Limburgish
lij      -   -     -   lij_Latn Ligurian
lmo      -   -     -   lmo_Latn Lombard
ln       ln  -     ln  lin_Latn Lingala
lo       lo  -     lo  lao_Laoo Lao
lt       lt  lt_LT lt  lit_Latn Lithuanian
ltg      -   -     -   ltg_Latn Latgalian
lua      -   -     -   lua_Latn Luba-Kasai
luo      -   -     -   luo_Latn Luo
lus      -   -     -   lus_Latn Mizo
mag      -   -     -   mag_Deva Magahi
mai      -   -     -   mai_Deva Maithili
mg       mg  -     mg  plt_Latn Malagasy
mi       mi  -     -   mri_Latn Maori
min      -   -     -   min_Latn Minangkabau
mk       mk  mk_MK mk  mkd_Cyrl Macedonian
ml       ml  ml_IN ml  mal_Mlym Malayalam
mni      -   -     -   mni_Beng Meitei
mos      -   -     -   mos_Latn Mossi
mr       mr  mr_IN mr  mar_Deva Marathi
ms       ms  -     ms  zsm_Latn Malay
mt       mt  -     -   mlt_Latn Maltese
my       my  my_MM my  mya_Mymr Burmese
ne       ne  ne_NP ne  npi_Deva Nepali
nn       nn  -     -   nno_Latn Norwegian Nynorsk
no       no  -     no  nob_Latn Norwegian
nso      -   -     ns  nso_Latn Northern Sotho
nus      -   -     -   nus_Latn Nuer
ny       -   -     -   nya_Latn Nyanja
oc       oc  -     oc  oci_Latn Occitan
om       -   -     -   gaz_Latn Oromo
or       -   -     or  ory_Orya Odia
pa       pa  -     pa  pan_Guru Punjabi
pag      -   -     -   pag_Latn Pangasinan
pap      -   -     -   pap_Latn Papiamento
pl       pl  pl_PL pl  pol_Latn Polish
prs      -   -     -   prs_Arab Dari
ps       ps  ps_AF ps  pbt_Arab Pashto
qu       -   -     -   quy_Latn Quechua
rn       -   -     -   run_Latn Rundi
ro       ro  ro_RO ro  ron_Latn Romanian
rw       -   -     -   kin_Latn Kinyarwanda
sa       sa  -     -   san_Deva Sanskrit
sat      -   -     -   sat_Beng Santali
sc       -   -     -   srd_Latn Sardinian
scn      -   -     -   scn_Latn Sicilian
sd       sd  -     sd  snd_Arab Sindhi
sg       -   -     -   sag_Latn Sango
shn      -   -     -   shn_Mymr Shan
si       si  si_LK si  sin_Sinh Sinhala
sk       sk  -     sk  slk_Latn Slovak
sm       -   -     -   smo_Latn Samoan
sn       sn  -     -   sna_Latn Shona
so       so  -     so  som_Latn Somali
sq       sq  -     sq  als_Latn Albanian
sr       sr  -     sr  srp_Cyrl Serbian
ss       -   -     ss  ssw_Latn Swati
st       -   -     -   sot_Latn Southern Sotho
su       su  -     su  sun_Latn Sundanese
szl      -   -     -   szl_Latn Silesian
taq      -   -     -   taq_Latn Tamasheq
taq_Tfng -   -     -   taq_Tfng Tamasheq (Tifinagh script)
te       te  te_IN -   tel_Telu Telugu
tg       tg  -     -   tgk_Cyrl Tajik
th       th  th_TH th  tha_Thai Thai
ti       -   -     -   tir_Ethi Tigrinya
tk       tk  -     -   tuk_Latn Turkmen
tl       tl  tl_XX tl  tgl_Latn Tagalog
tn       -   -     tn  tsn_Latn Tswana
tpi      -   -     -   tpi_Latn Tok Pisin
ts       -   -     -   tso_Latn Tsonga
tt       tt  -     -   tat_Cyrl Tatar
tum      -   -     -   tum_Latn Tumbuka
tw       -   -     -   twi_Latn Twi
tzm      -   -     -   tzm_Tfng Central Atlas Tamazight
ug       -   -     -   uig_Arab Uyghur
uk       uk  uk_UA uk  ukr_Cyrl Ukrainian
umb      -   -     -   umb_Latn Umbundu
ur       ur  ur_PK ur  urd_Arab Urdu
uz       uz  -     uz  uzn_Latn Uzbek
vec      -   -     -   vec_Latn Venetian
vi       vi  vi_VN vi  vie_Latn Vietnamese
war      -   -     -   war_Latn Waray
wo       -   -     wo  wol_Latn Wolof
xh       -   xh_ZA xh  xho_Latn Xhosa
yi       yi  -     yi  ydd_Hebr Yiddish
yo       yo  -     yo  yor_Latn Yoruba
yue      yue -     -   yue_Hant Cantonese
zho_Hant -   -     -   zho_Hant Chinese (traditional script)
zu       -   -     zu  zul_Latn Zulu
"""


def _others() -> tuple[Language, ...]:
    languages = []
    for line in _OTHERS.strip().splitlines()[1:]:
        code, *tokens, name = line.split(maxsplit=5)
        whisper, mbart50, m2m100, nllb = (None if token == "-" else token for token in tokens)
        languages.append(
            Language(code, name, None, whisper, mbart50, f"__{m2m100}__" if m2m100 else None, nllb, None, None)
        )
    return tuple(languages)


_TABLE = _COVOST + _others()

LANGUAGES: dict[str, Language] = {language.code: language for language in _TABLE}

LEVELS: dict[Level, tuple[str, ...]] = {
    level: tuple(language.code for language in _COVOST if language.level == level) for level in ("high", "mid", "low")
}
"""CoVoST 2 source languages by resource level, in the order of the paper's tables."""

COVOST_SOURCES: tuple[str, ...] = tuple(code for codes in LEVELS.values() for code in codes)
"""Languages that CoVoST 2 translates into English, in the same order."""

COVOST_TARGETS: tuple[str, ...] = (
    "de", "ca", "zh", "fa", "et", "mn", "tr", "ar", "sv", "lv", "sl", "ta", "ja", "id", "cy",
)  # fmt: skip
"""Languages that CoVoST 2 translates English into."""

WITHOUT_SPACES = frozenset({"zh", "zho_Hant", "yue", "ja"})
"""Codes of the languages that are written without spaces between words."""

_EXTRA_SPELLINGS = {
    "zh_hans": "zh", "cmn": "zh", "mandarin": "zh", "zh_hant": "zho_Hant", "zh_tw": "zho_Hant", "farsi": "fa",
    "slovene": "sl", "embosi": "mdw", "nb": "no", "iw": "he", "fil": "tl", "ku": "kmr",
}  # fmt: skip


def _spelling(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _spellings() -> dict[str, str]:
    """Every accepted spelling -> code: codes, English names, the tokens of the model families."""
    table = {_spelling(code): code for code in LANGUAGES} | _EXTRA_SPELLINGS
    for language in _TABLE:
        # NLLB's code without the script is ISO 639-3; it means the language, not its second script.
        three_letters = language.nllb[:3] if language.nllb and language.nllb != language.code else None
        names = (language.name, language.whisper, language.mbart50, language.m2m100, language.nllb, three_letters)
        for name in names:
            if name is not None:
                table.setdefault(_spelling(name), language.code)
    return table


_SPELLINGS = _spellings()


def get_language(code: str) -> Language:
    """Look a language up by its code, by another spelling of it ("zh-CN", "sv-SE", "deu_Latn") or its English name.

    Raises:
        UnknownLanguage: naming the nearest codes and names.
    """
    found = _SPELLINGS.get(_spelling(code))
    if found is not None:
        return LANGUAGES[found]
    import difflib  # only errors need it

    names = [name for language in _TABLE for name in (language.code, _spelling(language.name))]
    nearest = difflib.get_close_matches(_spelling(code), names, n=6, cutoff=0.6)
    codes = list(dict.fromkeys(_SPELLINGS[name] for name in nearest))[:3]
    if codes:
        hint = "did you mean " + " or ".join(f"{near} ({LANGUAGES[near].name})" for near in codes) + "?"
    else:
        covost = " ".join(sorted(language.code for language in _COVOST))
        hint = f"known: {covost} and {len(_TABLE) - len(_COVOST)} more, all that mBART-50, M2M-100 and NLLB-200 have"
    raise UnknownLanguage(f"unknown language {code!r}: {hint}")
