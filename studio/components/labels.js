// The answers of a dimension as buttons: one of them, or for the kind multi any number. Up to ten have a digit
// each. Of more, the digits are the likeliest; all are grouped by the first level of their names and found by typing.

const FEW = 10 // as many as there are digits
const LIKELY = 8
const FOUND = 40 // shown of what a search finds
const NONE = "(none)" // so a decision says that no label of a multi dimension applies
const BETWEEN = "|" // the labels of a multi dimension where they are written as one
const LEVELS = ":"

class Labels {
  constructor(host, find, settings, act) {
    this.labels = settings.labels
    this.kind = settings.kind
    this.multi = settings.kind === "multi"
    this.many = this.labels.length > FEW
    this.host = host
    this.find = find
    this.act = act
    this.places = new Map(this.labels.map((label, place) => [label.name, place]))
    this.likely = part("likely")
    this.found = part("found")
    this.all = part("all")
    this.buttons = this.labels.map((label, place) => this.button(label, this.many ? null : place))
    this.marked = new Set(this.buttons)
    this.at = 0 // which of those found Enter picks
    find.hidden = !this.many
    find.value = ""
    host.dataset.layout = this.many ? "many" : "few"
    if (this.many) {
      this.all.append(...grouped(this.buttons))
      host.replaceChildren(this.likely, this.found, this.all)
      this.search("")
    } else host.replaceChildren(...this.buttons)
  }

  button(label, digit = null, described = false) {
    const made = document.createElement("button")
    made.type = "button"
    made.dataset.label = label.name
    made.title = label.description ? label.name + ": " + label.description : label.name
    if (digit !== null && digit < FEW) made.append(element("kbd", String((digit + 1) % 10)))
    const [family, last] = levels(label.name)
    const name = element("span", digit !== null && this.many && family ? last : label.name)
    if (digit !== null && this.many && family) name.prepend(element("small", family))
    if (described && label.description) name.append(element("small", label.description))
    made.append(name, element("em", ""), document.createElement("i"))
    made.onmousedown = (event) => event.preventDefault()
    made.onclick = () => this.press(label.name)
    return made
  }

  press(name) {
    this.act(this.multi ? "toggle" : "choose", name)
  }

  // Drawing: what is on a row changes few of a thousand buttons, and only those are touched.

  draw(deck, item) {
    const visible = deck.suggestionVisible
    const decided = lastOf(item)
    const chances = visible ? item.probabilities : []
    const state = {
      chances,
      suggested: new Set(visible ? this.split(item.suggestion) : []),
      chosen: new Set(this.split(this.chosen(deck, item) || "")),
      pressed: new Set(this.multi ? [] : this.split(decided ? decided.label : "")),
    }
    if (!this.many) {
      for (const button of this.buttons) this.mark(button, state)
      return
    }
    const likely = visible ? likeliest(item, LIKELY) : []
    this.drawLikely(item, likely, visible)
    const now = new Set(likely.map((place) => this.buttons[place]))
    for (const name of [...state.suggested, ...state.chosen, ...state.pressed]) now.add(this.buttons[this.places.get(name)])
    now.delete(undefined)
    const shown = [...this.likely.children, ...this.found.children]
    const empty = { chances: [], suggested: new Set(), chosen: new Set(), pressed: new Set() }
    for (const button of this.marked) if (!now.has(button)) this.mark(button, empty)
    for (const button of [...now, ...shown]) this.mark(button, state)
    this.marked = now
  }

  drawLikely(item, likely, visible) {
    const signature = item && visible ? item.id + likely.join() : ""
    if (this.likelyOf === signature) return
    this.likelyOf = signature
    this.likely.replaceChildren(...likely.map((place, digit) => this.button(this.labels[place], digit)))
  }

  mark(button, { chances, suggested, chosen, pressed }) {
    const name = button.dataset.label
    const chance = chances[this.places.get(name)]
    const on = this.multi ? chosen.has(name) : pressed.has(name)
    button.classList.toggle("suggested", suggested.has(name))
    button.classList.toggle("chosen", on)
    button.setAttribute("aria-pressed", on)
    button.querySelector("em").textContent = chance === undefined ? "" : percent(chance)
    button.querySelector("i").style.width = chance === undefined ? "0" : (chance * 100).toFixed(1) + "%"
  }

  flash(label) {
    for (const name of this.split(label)) {
      for (const button of this.host.querySelectorAll("button")) {
        if (button.dataset.label !== name) continue
        button.classList.add("hit")
        setTimeout(() => button.classList.remove("hit"), 110)
      }
    }
  }

  // What is chosen: of a multi dimension a set, which Enter saves

  split(label) {
    if (!label || label === NONE) return []
    return this.multi ? label.split(BETWEEN) : [label]
  }

  chosen(deck, item) {
    if (!this.multi || !item) return null
    const decided = lastOf(item)
    return item.draft ?? (decided ? decided.label : deck.suggestionVisible ? item.suggestion : null)
  }

  toggle(deck, name) {
    const item = deck.item
    if (!item) return
    const on = new Set(this.split(this.chosen(deck, item)))
    if (!on.delete(name)) on.add(name)
    item.draft = this.labels.map((label) => label.name).filter((other) => on.has(other)).join(BETWEEN) || NONE
    deck.onChange()
  }

  // What Enter saves besides the suggestion as it stands; null for that.
  draft(item) {
    if (!this.multi || !item) return null
    return item.draft ?? (lastOf(item) ? lastOf(item).label || null : null)
  }

  words(item) {
    const names = this.split(item.suggestion)
    return [names.length ? names.join(", ") : "none of them", item.confidence === null ? "" : " at " + percent(item.confidence)]
  }

  said(label) {
    return label === NONE ? "none of them" : this.split(label).join(", ")
  }

  // Keys

  key(key, digit) {
    if (digit !== null) {
      const place = (digit + 9) % 10
      const name = this.many ? this.likely.children[place]?.dataset.label : this.labels[place]?.name
      return name === undefined ? false : [this.multi ? "toggle" : "choose", name]
    }
    if (this.multi && key === "n") return ["choose", NONE]
    if (this.kind === "boolean" && (key === "y" || key === "n")) {
      const no = this.labels[0].name.toLowerCase() === "no" ? 0 : 1
      return ["choose", this.labels[key === "n" ? no : 1 - no].name]
    }
    return null
  }

  get help() {
    const digits = this.many ? "1 to " + LIKELY : "1 to " + (this.labels.length % 10)
    const lines = []
    if (this.multi) {
      lines.push([digits, this.many ? "switch one of the likeliest labels on or off" : "switch that label on or off"])
      lines.push(["Enter", "save the labels that are on"], ["N", "save that none of them applies"], ["Esc", "as it was"])
    } else {
      lines.push([digits, this.many ? "choose one of the likeliest labels" : "choose that label"])
      if (this.kind === "boolean") lines.push(["Y or N", this.labels.map((label) => label.name).join(" or ")])
      lines.push(["Enter", "accept what the model says"])
    }
    if (this.many) lines.push(["/", "find a label by typing, ↑ ↓ and Enter pick it"])
    return lines
  }

  // Finding by typing

  search(text) {
    if (this.find.value !== text) this.find.value = text
    const wanted = text.trim().toLocaleLowerCase()
    const ranked = wanted ? this.labels.map((label) => [rank(label, wanted), label]).filter(([place]) => place < Infinity) : []
    ranked.sort((a, b) => a[0] - b[0])
    this.found.replaceChildren(...ranked.slice(0, FOUND).map(([, label]) => this.button(label, null, true)))
    this.host.dataset.searching = Boolean(wanted)
    if (wanted && !ranked.length) this.found.append(element("p", "No label has this in its name or meaning."))
    this.at = 0
    this.point()
  }

  next(by) {
    const last = this.found.querySelectorAll("button").length - 1
    this.at = Math.max(0, Math.min(last, this.at + by))
    this.point()
  }

  point() {
    this.found.querySelectorAll("button").forEach((button, place) => {
      button.classList.toggle("first", place === this.at)
      if (place === this.at) button.scrollIntoView({ block: "nearest" })
    })
  }

  get picked() {
    return this.found.querySelector("button.first")?.dataset.label ?? null
  }
}

function part(name) {
  const made = document.createElement("div")
  made.className = name
  return made
}

// The first level of a hierarchical name, "" for a plain one, and the rest.
function levels(name) {
  const end = name.indexOf(LEVELS)
  return end < 1 || end === name.length - 1 ? ["", name] : [name.slice(0, end), name.slice(end + 1)]
}

// Buttons under a heading for each first level, in task order; those without one come last.
function grouped(buttons) {
  const groups = new Map()
  for (const button of buttons) {
    const [family, last] = levels(button.dataset.label)
    if (!groups.has(family)) groups.set(family, part("group"))
    if (family) button.querySelector("span").textContent = last
    groups.get(family).append(button)
  }
  const plain = groups.get("")
  groups.delete("")
  const made = []
  for (const [name, group] of groups) made.push(element("h4", name), group)
  if (plain) made.push(...(groups.size ? [element("h4", "more")] : []), plain)
  return made
}

// Where a search should show a label: names that begin with it, then words in names, names, meanings. Infinity: not.
function rank(label, wanted) {
  const name = label.name.toLocaleLowerCase()
  if (levels(name)[1].startsWith(wanted)) return 0
  if (name.startsWith(wanted)) return 1
  if (name.split(/[\s_:-]+/).some((word) => word.startsWith(wanted))) return 2
  if (name.includes(wanted)) return 3
  return label.description.toLocaleLowerCase().includes(wanted) ? 4 : Infinity
}

function likeliest(item, count) {
  item.ranked ??= item.probabilities
    .map((chance, place) => [chance, place])
    .sort((a, b) => b[0] - a[0])
    .slice(0, LIKELY)
    .map(([, place]) => place)
  return item.ranked.slice(0, count)
}

function lastOf(item) {
  return item ? item.decisions[item.decisions.length - 1] || null : null
}
