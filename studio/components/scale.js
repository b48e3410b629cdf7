// The answer of a score: a figure on a scale, with what the model thinks of each of them drawn above it.

const FIGURES = 25 // from so many columns on, only every tenth has its figure written under it
const LEAST = 0.25 // drawn that tall at most: what is spread out evenly looks low
const TALLEST = 74 // pixels, of the column of the likeliest figure

class Scale {
  constructor(host, find, settings, act) {
    this.host = host
    this.figures = settings.labels.map((label) => label.name)
    this.typed = ""
    this.typedOn = null
    find.hidden = true
    host.dataset.layout = "scale"
    host.dataset.searching = false
    const wide = this.figures.length > FIGURES
    this.mean = part("mean")
    this.columns = this.figures.map((figure) => {
      const made = document.createElement("button")
      made.type = "button"
      made.dataset.label = figure
      const written = !wide || Number(figure) % 10 === 0
      made.append(document.createElement("i"), element("span", written ? figure : ""))
      made.onmousedown = (event) => event.preventDefault()
      made.onclick = () => act("choose", figure)
      return made
    })
    const scale = part("scale")
    scale.dataset.wide = wide
    scale.append(this.mean, ...this.columns)
    host.replaceChildren(scale)
  }

  draw(deck, item) {
    if (this.typedOn !== item) this.typed = ""
    this.typedOn = item
    const visible = deck.suggestionVisible
    const chances = visible ? item.probabilities : []
    const highest = Math.max(...chances, LEAST)
    const decided = lastOf(item)
    const chosen = item ? item.draft ?? (decided ? decided.label : null) : null
    this.columns.forEach((column, place) => {
      const figure = this.figures[place]
      const chance = chances[place]
      column.classList.toggle("suggested", visible && item.suggestion === figure)
      column.classList.toggle("chosen", chosen === figure)
      column.setAttribute("aria-pressed", chosen === figure)
      column.title = chance === undefined ? figure : figure + ": " + percent(chance)
      column.firstElementChild.style.height = chance === undefined ? "0" : ((TALLEST * chance) / highest).toFixed(1) + "px"
    })
    this.mean.hidden = !chances.length
    if (chances.length) {
      const share = (expectation(this.figures, chances).mean - Number(this.figures[0]) + 0.5) / this.figures.length
      this.mean.style.left = (100 * share).toFixed(2) + "%"
    }
  }

  flash(label) {
    const column = this.columns[this.figures.indexOf(label)]
    if (!column) return
    column.classList.add("hit")
    setTimeout(() => column.classList.remove("hit"), 110)
  }

  draft(item) {
    return item ? item.draft : null
  }

  words(item) {
    if (!item.probabilities.length) return [item.suggestion, ""]
    const { mean, spread } = expectation(this.figures, item.probabilities)
    return [mean.toFixed(1), ", give or take " + spread.toFixed(1)]
  }

  said(label) {
    return label
  }

  // A figure is saved as soon as no longer one begins like it: on a scale to 10 that is every key but 1.
  key(key, digit) {
    if (digit !== null || key === "-") {
      const next = digit === null ? key : String(digit)
      const begun = [this.typed + next, next].find((text) => this.figures.some((figure) => figure.startsWith(text)))
      if (begun === undefined) return false
      const possible = this.figures.filter((figure) => figure.startsWith(begun))
      this.typed = possible.length > 1 ? begun : ""
      return possible.length > 1 ? ["draft", this.figures.includes(begun) ? begun : null] : ["choose", possible[0]]
    }
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }
    return key in steps ? ["step", steps[key]] : null
  }

  step(deck, by) {
    const item = deck.item
    if (!item) return
    const from = this.figures.indexOf(item.draft ?? lastOf(item)?.label ?? (deck.suggestionVisible ? item.suggestion : ""))
    const start = from < 0 ? (this.figures.length - 1) / 2 - by : from
    const place = Math.max(0, Math.min(this.figures.length - 1, Math.round(start + by)))
    this.typed = ""
    deck.setDraft(this.figures[place])
  }

  get help() {
    const [first, last] = [this.figures[0], this.figures[this.figures.length - 1]]
    const lines = [["0 to 9", `choose a figure from ${first} to ${last}`]]
    const waiting = this.figures.filter((figure) => this.figures.some((other) => other !== figure && other.startsWith(figure)))
    if (waiting.length) lines.push(["Enter", `keep ${waiting.slice(0, 3).join(", ")} where a longer figure could follow`])
    lines.push(["↑ ↓", "one more, one less"], ["Enter", "accept what the model says, or keep the figure chosen"])
    lines.push(["Esc", "as it was"])
    return lines
  }
}

function expectation(figures, chances) {
  const total = chances.reduce((sum, chance) => sum + chance, 0) || 1
  const mean = figures.reduce((sum, figure, place) => sum + Number(figure) * chances[place], 0) / total
  const square = figures.reduce((sum, figure, place) => sum + (Number(figure) - mean) ** 2 * chances[place], 0) / total
  return { mean, spread: Math.sqrt(square) }
}
