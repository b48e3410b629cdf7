// Draws a deck. Everything people wrote goes in as text, never as markup.

const number = new Intl.NumberFormat("en-US")
const NAMES = ["line", "where", "said", "card", "broken", "why", "find", "labels", "note", "others", "saved", "pace", "sheet"]

class View {
  constructor(root, act) {
    this.root = root
    this.act = act
    this.drawnItem = null
    for (const name of NAMES) this[name] = root.querySelector("." + name)
    this.keys = {}
    for (const button of root.querySelectorAll("[data-do]")) {
      this.keys[button.dataset.do] ??= button
      // A button must not take the focus from a mouse: Enter would then press it again for the next row.
      button.onmousedown = (event) => event.preventDefault()
      button.onclick = () => act(button.dataset.do)
    }
    this.sheet.onclick = (event) => event.target === this.sheet && act("help")
  }

  begin(settings) {
    const Kind = settings.kind === "score" ? Scale : Labels
    this.panel = new Kind(this.labels, this.find, settings, this.act)
    this.root.dataset.kind = settings.kind
    this.keys.accept.lastChild.textContent = settings.kind === "multi" ? " save" : " accept"
    this.sheet.querySelector("dl").replaceChildren(...sheetOf(this.panel.help))
    this.drawnItem = null
  }

  draw(deck) {
    const { root } = this
    const item = deck.item
    const state = item ? "row" : deck.finished ? "finished" : "loading"
    root.dataset.state = state
    root.dataset.unsaved = deck.unsaved
    root.dataset.row = item ? item.id : ""
    root.dataset.pos = deck.position
    root.dataset.blind = deck.blind
    if (item !== this.drawnItem || !item) {
      this.card.textContent = item ? item.text : this.nothing(deck, state)
      this.card.scrollTop = 0
      this.note.value = item ? item.comment : ""
      this.note.hidden = !item || !item.comment
      this.drawnItem = item
      if (this.find.value) this.panel.search("")
    }
    this.panel.draw(deck, item)
    this.drawMeta(deck, item)
    this.drawRemarks(deck, item)
    this.drawFoot(deck, item)
  }

  nothing(deck, state) {
    if (state === "loading") return deck.problem === "offline" ? "Waiting for the studio to answer" : "Fetching rows"
    if (deck.settings.order === "flagged") return "No row that breaks a rule is waiting."
    if (deck.settings.order === "sample") return "No row of the blind sample is waiting."
    if (deck.settings.order === "second") return "No row of others is left that you have not decided."
    if (deck.settings.order === "chosen") return "All chosen rows are decided."
    const skipped = deck.counts ? deck.counts.skipped : 0
    if (!skipped) return "Every row here is decided."
    return `Nothing else is waiting. ${plural(skipped, "skipped row")} will be asked again at your next visit.`
  }

  drawMeta(deck, item) {
    const { counts } = deck
    const total = counts ? counts.decided + counts.waiting + counts.skipped : 0
    const share = total ? (100 * counts.decided) / total : 0
    this.line.firstElementChild.style.width = share + "%"
    this.line.setAttribute("aria-valuenow", Math.round(share))
    this.where.textContent = item ? "Row " + number.format(item.number + 1) + (item.domain ? "  " + item.domain : "") : ""
    disable(this.keys.back, deck.position === 0)
    disable(this.keys.forward, deck.position >= deck.items.length - 1)
    const decided = lastOf(item)
    if (item && item.draft !== null) this.say("Enter saves ", this.panel.said(item.draft), "")
    else if (decided) {
      const words = { reject: "no label", skip: "skip" }
      this.say("you said ", decided.label ? this.panel.said(decided.label) : words[decided.action] || "", "")
    } else if (deck.suggestionVisible) this.say("model says ", ...this.panel.words(item))
    else this.say(item && deck.blind ? "suggestion hidden" : "", "", "")
  }

  say(before, strong, after) {
    this.said.replaceChildren(before, element("b", strong), after)
    this.said.title = this.said.textContent
  }

  // Rules the row breaks and the model's reason speak of what the model says: hidden with it.
  drawRemarks(deck, item) {
    const visible = deck.suggestionVisible
    const broken = visible ? item.broken : []
    const why = visible ? item.explanation : ""
    this.broken.hidden = !broken.length
    this.why.hidden = !why
    if (broken.length) this.broken.replaceChildren(...broken.map((message) => element("p", message)))
    if (why) this.why.replaceChildren(element("b", "why "), why)
  }

  drawFoot(deck, item) {
    const { unsaved, problem } = deck
    disable(this.keys.accept, !deck.suggestionVisible && this.panel.draft(item) === null)
    disable(this.keys.undo, !deck.past.length)
    disable(this.keys.others, !deck.suggestionVisible)
    for (const name of ["reject", "skip", "comment"]) disable(this.keys[name], !item)
    this.keys.blind.setAttribute("aria-pressed", deck.blind)
    const trouble = problem && unsaved > 0
    this.saved.dataset.kind = trouble ? "trouble" : unsaved ? "waiting" : "saved"
    if (trouble) {
      const why = problem === "offline" ? "the studio is away, go on" : problem
      this.saved.textContent = `${number.format(unsaved)} unsaved: ${why}`
    } else if (unsaved) this.saved.textContent = number.format(unsaved) + " unsaved"
    else this.saved.textContent = deck.loaded ? "saved" : ""
    const { counts } = deck
    if (!counts) return
    const parts = [plural(counts.waiting, "row") + " waiting", number.format(counts.decided) + " decided"]
    if (counts.skipped) parts.push(number.format(counts.skipped) + " skipped")
    if (counts.median_seconds && counts.decided >= 5) {
      parts.push(`about ${counts.median_seconds.toFixed(1)} s a row`)
      if (counts.waiting && !deck.decidedBefore) parts.push(duration(counts.median_seconds * counts.waiting) + " left at this pace")
    }
    this.pace.textContent = parts.join(", ")
  }

  openNote() {
    this.note.hidden = false
    this.note.focus()
  }
}

const COMMON = [
  ["X", "reject: no answer fits"],
  ["S or Space", "skip, decide another time"],
  ["Z or Backspace", "undo, as far back as you like"],
  ["← →", "look at rows before and after"],
  ["M", "write a comment, Enter keeps it"],
  ["B", "blind: hide what the model says"],
  ["E", "what others said of this row"],
  ["W", "ask the model why"],
  ["?", "show or hide this sheet"],
]

// Lines of the help sheet: the keys of the kind at hand, then those of all.
function sheetOf(own) {
  return [...own, ...COMMON].flatMap(([keys, meaning]) => {
    const term = document.createElement("dt")
    const words = keys.split(" ").flatMap((key) => [/^(or|to)$/.test(key) ? key : element("kbd", key), " "])
    term.append(...words.slice(0, -1))
    return [term, element("dd", meaning)]
  })
}

function element(tag, text) {
  const made = document.createElement(tag)
  made.textContent = text
  return made
}

function disable(button, off) {
  button.setAttribute("aria-disabled", off)
}

function plural(count, noun) {
  return number.format(count) + " " + noun + (count === 1 ? "" : "s")
}

function percent(share) {
  return Math.round(share * 100) + "%"
}

function duration(seconds) {
  if (seconds < 90) return Math.max(1, Math.round(seconds)) + " s"
  const minutes = Math.round(seconds / 60)
  return minutes < 90 ? minutes + " min" : (minutes / 60).toFixed(1) + " h"
}
