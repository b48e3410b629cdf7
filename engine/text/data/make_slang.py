"""How slang.tsv was made: `python make_slang.py FOLDER` writes it anew beside this file.

FOLDER holds the three sources as NOTICE.md names them: ekphrasis_noslang.json, bsdgames_acronyms.tsv and
contractions_dict.json. Of some 6,000 entries those stay that mean one thing wherever they stand, are no word of
English or of a trade by themselves ("app", "ip", "don") and offend nobody. What a source spells wrongly or too
coarsely is put right here.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

SLANG = """
10q 10x 2day 2gether 2moro 2morow 2morro 2morrow 2moz 2mro 2mrw 2night 2nite 2nyt 4eva 4ever 4get 4give 4got 4tw
4u 4ward aamof abt acct addy afaic afaics afaict afaik afair afaiu afk aight aise aiui aka alot alrite any1 appt
arvo asap ateotd awsome b/c b2b b4 b4u bbl bcnu bcoz bcuz bday becuz bestie betcha bff biab brb bro bruv btdt btw
btwn byob chillax chillin chk cmiiw cmon congrats convo coz crzy cuz cya defs dnt doin donno dontcha dtrt dunno
dwn dyk enuff every1 evry evry1 ezpz fav fave fcfs fcol fone frm frnd frnds ftfy ftr fttt ftw fwiw fyeo fyi g2g
g2k gimme gimmie gj glhf glwt gmta gnite goin gona gotcha gotta gr8 gtg gud gurl h8 hafta hav havnt hbu hiya hlp
hny howz hrs hth hubby ianal icbw iccl icymi idc idek idgi idk idrc idts iianm iirc iiuc ikr ikwym ilu ily imho
imma imnsho imo in2 inb4 innit iow irl istm istr itym itz ive iykwim iyss jftr jfyi jic jk jmo jst jsut jsyk juz
kinda kk knw kthx kwim l8 l8er l8r l8tr lbnl lemme lgtm lil lmao lmgtfy lmho lmk lol ltns luv lyf lyk m8 m8s mayb
mfw mins msg msgs myob n/a nbd ne1 nething neva nevr neway ngl nimby nite nmf nmp no1 noyb np nrn nsfw nvm nvr
nxt obv obvs ofc oic omg omgosh omw ooi otoh ottomh owtte pebkac peeps pls plz pmfji ppl prolly qft rcvd rofl
roflmao rotfl rsn scnr sez sfaict shld shud skool smh smthng some1 sorta soz srry srs srsly ssia str8 sum1 sux
teh tfw tgif thanx thnk thnx tho thru tht thx tinla tldr tmi tmk tmr tmrw tnx tptb ttbomk ttfn ttyl ttys txt
txting tysm tyt tyvm ur uve vry w/ w/e w/o w00t w8 wana wanna watevr wats wbu wdymbt wfh wfm whatev whr wht wibni
wkend wld wnt woot wot wrk wrt wtb wtg wth wtvr wud wuld wwjd xcept xmas xoxo xtra yagni yall ygm ykwim ymmv yolo
yrs yuo yw
"""

# Where the sources disagree, misspell, or say it in words not everybody wants to read.
CORRECTED = {
    "defs": "definitely",
    "gotcha": "got you",
    "gona": "going to",
    "hth": "hope this helps",
    "icbw": "I could be wrong",
    "iccl": "I couldn't care less",
    "idek": "I don't even know",
    "ikr": "I know, right",
    "innit": "isn't it",
    "istr": "I seem to remember",
    "kk": "okay",
    "kthx": "okay, thanks",
    "lmao": "laughing my head off",
    "m8": "mate",
    "n/a": "not applicable",
    "nm": "never mind",
    "nsfw": "not safe for work",
    "roflmao": "rolling on the floor laughing",
    "tldr": "too long, didn't read",
    "tmrw": "tomorrow",
    "2morrow": "tomorrow",
    "txt": "text",
    "wats": "what is",
    "howz": "how is",
    "w/o": "without",
    "wth": "what the heck",
    "wtb": "want to buy",
    "l8r": "later",
    "xoxo": "hugs and kisses",
}

# Too common to be left out for not being in any of the sources; written for Winnow.
OWN = {"u": "you", "thanku": "thank you", "wknd": "weekend", "sumthing": "something", "plzz": "please"}
UNMARKED = {
    "arent": "are not",
    "couldnt": "could not",
    "didnt": "did not",
    "doesnt": "does not",
    "dont": "do not",
    "hasnt": "has not",
    "havent": "have not",
    "isnt": "is not",
    "shouldnt": "should not",
    "thats": "that is",
    "theyre": "they are",
    "wasnt": "was not",
    "werent": "were not",
    "wouldnt": "would not",
    "youre": "you are",
    "youve": "you have",
}
CONTRACTIONS_CORRECTED = {
    "ain't": "is not",
    "o'clock": "",  # a word by now
    "you'll've": "you will have",
    "finna": "going to",
    "what'd": "what did",
}
NAMES = ("I", "I'm", "I've", "God", "Google", "Friday", "Christmas")


def main(folder: Path) -> None:
    """Write slang.tsv: kind, what is written, what it means; sorted, so that changes show."""
    noslang = {key.lower(): value for key, value in _json(folder / "ekphrasis_noslang.json").items()}
    acronyms: dict[str, str] = {}
    for line in (folder / "bsdgames_acronyms.tsv").read_text(encoding="utf-8").splitlines():
        key, tab, meaning = line.partition("\t")
        if tab:
            acronyms.setdefault(key.strip().lower(), meaning)
    slang = set(SLANG.split())
    lines = set()
    for word in slang:
        found = CORRECTED.get(word) or acronyms.get(word) or noslang.get(word)
        if found is None:
            raise SystemExit(f"No source knows '{word}'.")
        lines.add(("slang", word, _tidy(found)))
    lines |= {("slang", word, meaning) for word, meaning in OWN.items()}
    for written, meaning in _json(folder / "contractions_dict.json").items():
        word, meaning = written.lower(), CONTRACTIONS_CORRECTED.get(written.lower(), meaning)
        # Without "in." for a month, "could cause" for itself and what slang has; the rest is what people write.
        if meaning and re.fullmatch(r"'?[a-z]+(?:'[a-z]+)*'?|gonna", word) and word not in slang:
            lines.add(("contraction", word, _tidy(meaning)))
    lines |= {("contraction", word, meaning) for word, meaning in UNMARKED.items()}
    text = "".join("\t".join(line) + "\n" for line in sorted(lines))
    (Path(__file__).parent / "slang.tsv").write_text(text, encoding="utf-8")
    print(f"{len(lines)} entries")  # noqa: T201 - a script


def _json(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {key.replace("’", "'"): value for key, value in found.items()}


def _tidy(meaning: str) -> str:
    """One spelling: the first of several in braces, no remarks in brackets, no capitals but of names."""
    meaning = re.sub(r"\{([^,}]*)[^}]*\}", r"\1", meaning)
    meaning = re.sub(r"\[[^]]*\]\s*|\s*\([^)]*\)", "", meaning).strip(" .!?")
    names = {name.lower(): name for name in NAMES}
    words = [names.get(word.lower(), word.lower()) for word in meaning.split()]
    return " ".join(words)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
