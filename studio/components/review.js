// Ties deck, view, keyboard and page together. Streamlit calls the function below at every rerun; the deck stays.

const mounted = new WeakMap()
const NEEDS_ARROWS = "[role=slider],[role=radiogroup],[role=listbox],[role=tablist],[role=menu],[role=combobox]"

class Review {
  constructor(root, component) {
    this.root = root
    this.deck = null
    this.signature = ""
    this.view = new View(root, (what, label) => this.act(what, label))
    this.others = new Others(this.view.others, () => this.changed())
    this.toldFinished = false
    this.listeners = [
      [window, "keydown", (event) => this.onKey(event), true],
      [window, "pagehide", () => this.deck.outbox.beacon(), false],
      [window, "online", () => this.deck.outbox.hurry(), false],
      [document, "visibilitychange", () => this.deck.visibilityChanged(), false],
    ]
    for (const [target, name, handler, capture] of this.listeners) target.addEventListener(name, handler, capture)
    this.ticking = setInterval(() => this.coveredByDialog() || this.deck.tick(), 1000)
    this.view.note.oninput = () => this.deck.setComment(this.view.note.value)
    this.view.find.oninput = () => this.view.panel.search(this.view.find.value)
    this.update(component)
  }

  update({ data, setTriggerValue }) {
    this.tell = setTriggerValue
    const signature = JSON.stringify(data)
    if (signature === this.signature) return
    const first = this.deck === null
    this.signature = signature
    if (this.deck) this.deck.close()
    this.toldFinished = false
    this.view.begin(data)
    this.deck = new Deck(data, () => this.changed())
    this.changed()
    // A choice was made above: the keys belong to the rows again, not to the box it was made in.
    const active = document.activeElement
    if (!first && active && !this.root.getRootNode().host?.contains(active)) active.blur()
  }

  changed() {
    if (!this.deck) return
    this.others.follow(this.deck)
    this.view.draw(this.deck)
    if (!this.deck.finished) this.toldFinished = false
    else if (!this.toldFinished && this.deck.seq > 0 && this.deck.unsaved === 0) {
      this.toldFinished = true
      this.tell("finished", this.deck.session)
    }
  }

  act(what, label) {
    const { deck, view } = this
    if (what === "choose") {
      if (deck.choose(label)) view.panel.flash(label)
    } else if (what === "accept") {
      const draft = view.panel.draft(deck.item)
      const label = draft ?? deck.item?.suggestion
      if (draft === null ? deck.accept_suggestion() : deck.choose(draft)) view.panel.flash(label)
    } else if (what === "toggle") view.panel.toggle(deck, label)
    else if (what === "draft") deck.setDraft(label)
    else if (what === "clear") {
      view.panel.typed = ""
      deck.setDraft(null)
    } else if (what === "step") view.panel.step(deck, label)
    else if (what === "others") deck.suggestionVisible && this.others.toggle(deck)
    else if (what === "why") deck.suggestionVisible && this.others.why(deck)
    else if (what === "reject") deck.decide("reject")
    else if (what === "skip") deck.decide("skip")
    else if (what === "undo") deck.undo()
    else if (what === "back") deck.move(-1)
    else if (what === "forward") deck.move(1)
    else if (what === "blind") deck.toggleBlind()
    else if (what === "comment") deck.item && view.openNote()
    else if (what === "find") view.find.hidden || view.find.focus()
    else if (what === "help") view.sheet.hidden = !view.sheet.hidden
  }

  onKey(event) {
    if (event.isComposing || this.coveredByDialog()) return
    const target = event.composedPath()[0]
    const typing = target instanceof Element && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
    if (typing) {
      if (target === this.view.find) this.onFindKey(event)
      else if (target === this.view.note) this.onNoteKey(event)
      return
    }
    const what = this.meaning(event, target)
    if (what === null) return
    event.preventDefault()
    event.stopImmediatePropagation()
    if (what) this.act(...what)
  }

  // Whether something of Streamlit's lies over the rows. Its "Connection error" does not count and is closed: one
  // can go on deciding while the server is away, and the line under the labels says that it is.
  coveredByDialog() {
    const dialog = document.querySelector("[data-testid=stDialog]")
    if (!dialog || !dialog.innerText.startsWith("Connection error")) return Boolean(dialog)
    dialog.querySelector("button[aria-label=Close]")?.click()
    return false
  }

  // What a key asks for: [verb, label], false for "nothing, but keep it from Streamlit", null for "not ours".
  meaning(event, target) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
    if (event.ctrlKey || event.metaKey) return key === "z" && !event.shiftKey && !event.altKey ? ["undo"] : null
    if (event.altKey) return null
    if (!this.view.sheet.hidden) return key === "?" || key === "Escape" ? ["help"] : key === "Tab" ? null : false
    const pressable = target instanceof Element && target.closest("button, a[href], summary, [role=button]")
    if (pressable && (key === "Enter" || key === " ")) return null
    const arrows = { ArrowLeft: "back", ArrowRight: "forward" }[key]
    if (arrows) return target instanceof Element && target.closest(NEEDS_ARROWS) ? null : [arrows]
    const verb = this.verb(event, key)
    // R and C are Streamlit's own keys (rerun, clear cache): they must not fire between decisions.
    if (verb === null) return key === "r" || key === "c" ? false : null
    if (verb && verb[0] === "step") return target instanceof Element && target.closest(NEEDS_ARROWS) ? null : verb
    return event.repeat ? false : verb
  }

  verb(event, key) {
    const digit = /^\d$/.test(key) ? key : event.shiftKey ? null : (/^Digit(\d)$/.exec(event.code) || [])[1]
    if (digit !== null && digit !== undefined) {
      return this.view.panel.key(key, Number(digit))
    }
    if (this.deck.item && this.deck.item.draft !== null && (key === "Escape" || key === "Backspace")) return ["clear"]
    const own = this.view.panel.key(key, null)
    if (own !== null) return own
    const verbs = { Enter: "accept", x: "reject", z: "undo", Backspace: "undo", s: "skip", " ": "skip", m: "comment" }
    const more = { b: "blind", e: "others", w: "why", "?": "help", "/": "find" }
    const found = verbs[key] || more[key]
    return found ? [found] : null
  }

  onFindKey(event) {
    const { view } = this
    if (event.key === "Enter") {
      event.preventDefault()
      if (event.repeat) return
      if (view.panel.picked) this.pick(view.panel.picked)
      else if (!view.find.value.trim()) this.act("accept")
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault()
      view.panel.next(event.key === "ArrowDown" ? 1 : -1)
    } else if (event.key === "Escape") {
      view.panel.search("")
      view.find.blur()
    } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !view.find.value) {
      event.preventDefault()
      this.act("undo")
    } else return
    event.stopImmediatePropagation()
  }

  pick(name) {
    this.view.panel.press(name)
    this.view.panel.search("") // the row stays where several labels apply: the next one can be typed at once
  }

  onNoteKey(event) {
    if (event.key !== "Escape" && (event.key !== "Enter" || event.shiftKey)) return
    event.preventDefault()
    event.stopImmediatePropagation()
    this.deck.setComment(this.view.note.value)
    this.view.note.hidden = !this.view.note.value
    this.view.note.blur()
  }

  close() {
    clearInterval(this.ticking)
    for (const [target, name, handler, capture] of this.listeners) target.removeEventListener(name, handler, capture)
    this.others.close()
    this.deck.close()
  }
}

export default function (component) {
  const root = component.parentElement.querySelector("#deck")
  let review = mounted.get(root)
  if (review) review.update(component)
  else mounted.set(root, (review = new Review(root, component)))
  return () => {
    mounted.delete(root)
    review.close()
  }
}
