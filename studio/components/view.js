// Draws a deck. Everything people wrote goes in as text, never as markup.

const number = new Intl.NumberFormat("en-US")

class View {
  constructor(root, act) {
    this.root = root
    this.act = act
    this.labels = []
    this.drawnItem = null
    for (const name of ["line", "where", "said", "card", "find", "labels", "note", "saved", "pace", "sheet"]) {
      this[name] = root.querySelector("." + name)
    }
    this.buttons = [] // of labels, in their order
    this.keys = {}
    for (const button of root.querySelectorAll("[data-do]")) {
      this.keys[button.dataset.do] ??= button
      // A button must not take the focus from a mouse: Enter would then press it again for the next row.
      button.onmousedown = (event) => event.preventDefault()
      button.onclick = () => act(button.dataset.do)
    }
    this.sheet.onclick = (event) => event.target === this.sheet && act("help")
  }

  setLabels(labels) {
    this.labels = labels
    const many = labels.length > 10
    this.root.dataset.many = many
    this.find.hidden = !many
    this.find.value = ""
    for (const part of this.root.querySelectorAll(".many")) part.hidden = !many
    this.buttons = labels.map((label, index) => {
      const button = document.createElement("button")
      button.type = "button"
      button.dataset.label = label.name
      button.title = label.description ? label.name + ": " + label.description : label.name
      const parts = []
      if (index < 10) parts.push(element("kbd", String((index + 1) % 10)))
      parts.push(element("span", label.name), element("em", ""), document.createElement("i"))
      button.append(...parts)
      button.onmousedown = (event) => event.preventDefault()
      button.onclick = () => this.act("choose", label.name)
      return button
    })
    this.labels_shown = this.buttons
    this.root.querySelector(".labels").replaceChildren(...this.buttons)
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
      if (this.find.value) this.filter("")
    }
    this.drawLabels(deck, item)
    this.drawMeta(deck, item)
    this.drawFoot(deck, item)
  }

  nothing(deck, state) {
    if (state === "loading") return deck.problem === "offline" ? "Waiting for the studio to answer" : "Fetching rows"
    const skipped = deck.counts ? deck.counts.skipped : 0
    if (!skipped) return "Every row here is decided."
    return `Nothing else is waiting. ${plural(skipped, "skipped row")} will be asked again at your next visit.`
  }

  drawLabels(deck, item) {
    const visible = deck.suggestionVisible
    const decided = item && item.decisions[item.decisions.length - 1]
    this.buttons.forEach((button, index) => {
      const name = this.labels[index].name
      const probability = visible ? item.probabilities[index] : undefined
      button.classList.toggle("suggested", visible && item.suggestion === name)
      const chosen = Boolean(decided) && decided.label === name
      button.classList.toggle("chosen", chosen)
      button.setAttribute("aria-pressed", chosen)
      button.querySelector("em").textContent = probability === undefined ? "" : Math.round(probability * 100) + "%"
      button.querySelector("i").style.width = probability === undefined ? "0" : (probability * 100).toFixed(1) + "%"
    })
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
    const decided = item && item.decisions[item.decisions.length - 1]
    if (decided) this.say("you said ", decided.label || { reject: "no label", skip: "skip" }[decided.action] || "", "")
    else if (deck.suggestionVisible) {
      this.say("model says ", item.suggestion, item.confidence === null ? "" : " at " + percent(item.confidence))
    } else this.say(item && deck.blind ? "suggestion hidden" : "", "", "")
  }

  say(before, strong, after) {
    this.said.replaceChildren(before, element("b", strong), after)
  }

  drawFoot(deck, item) {
    const { unsaved, problem } = deck
    disable(this.keys.accept, !deck.suggestionVisible)
    disable(this.keys.undo, !deck.past.length)
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
      if (counts.waiting) parts.push(duration(counts.median_seconds * counts.waiting) + " left at this pace")
    }
    this.pace.textContent = parts.join(", ")
  }

  // Choosing by typing, for more labels than digits

  filter(text) {
    if (this.find.value !== text) this.find.value = text
    const wanted = text.trim().toLocaleLowerCase()
    const rank = (name) => {
      const place = name.toLocaleLowerCase().indexOf(wanted)
      return place < 0 ? Infinity : place
    }
    this.labels_shown = this.buttons.filter((button) => rank(button.dataset.label) < Infinity)
    if (wanted) this.labels_shown.sort((a, b) => rank(a.dataset.label) - rank(b.dataset.label))
    for (const button of this.buttons) {
      button.hidden = !this.labels_shown.includes(button)
      button.classList.toggle("first", Boolean(wanted) && button === this.labels_shown[0])
      button.style.order = wanted ? this.labels_shown.indexOf(button) : ""
    }
  }

  get firstFound() {
    return this.find.value.trim() && this.labels_shown.length ? this.labels_shown[0].dataset.label : null
  }

  flash(label) {
    const button = this.buttons.find((other) => other.dataset.label === label)
    if (!button) return
    button.classList.add("hit")
    setTimeout(() => button.classList.remove("hit"), 110)
  }

  openNote() {
    this.note.hidden = false
    this.note.focus()
  }
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
